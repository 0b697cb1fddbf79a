// The latest figures of networks, in memory and bounded. They are gone with the process; a controller that starts anew has
// them again within an interval.
import type { NetworkStatus, NetworkTelemetry } from '#gen/longline/v1/network_pb.js';

/** Networks that figures are kept of: those that were heard of last. */
const MAX_NETWORKS = 5000;

/** After this figures say nothing any more. */
const STALE_MS = 120_000;

/** A network as it was when its agent sent figures. */
export interface NetworkFigures {
  readonly status: NetworkStatus;
  readonly atMs: number;
}

/** Figures by agent and network: an agent can say nothing of another's. */
export class NetworkFiguresCache {
  /** Ordered by when they came. */
  readonly #latest = new Map<string, NetworkFigures>();

  /** Takes figures. Quick; never throws. */
  put(agentId: string, { network: status }: NetworkTelemetry, nowMs: number): void {
    if (status === undefined) return;
    const key = `${agentId} ${status.name}`;
    this.#latest.delete(key);
    this.#latest.set(key, { status, atMs: nowMs });
    if (this.#latest.size > MAX_NETWORKS) this.#latest.delete(this.#latest.keys().next().value!);
  }

  /** The latest figures, unless they are too old to say anything. */
  latest(agentId: string, name: string, nowMs: number): NetworkFigures | undefined {
    const figures = this.#latest.get(`${agentId} ${name}`);
    return figures !== undefined && nowMs - figures.atMs < STALE_MS ? figures : undefined;
  }
}

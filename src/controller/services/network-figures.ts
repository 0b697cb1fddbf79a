// The latest figures of networks.
import type { NetworkStatus, NetworkTelemetry } from '#gen/longline/v1/network_pb.js';
import { LatestFigures } from './latest-figures.ts';

/** Networks that figures are kept of. */
const MAX_NETWORKS = 5000;

/** A network as it was when its agent sent figures. */
export interface NetworkFigures {
  readonly status: NetworkStatus;
  readonly atMs: number;
}

/** Figures of networks by agent. */
export class NetworkFiguresCache {
  readonly #latest = new LatestFigures<NetworkStatus>(MAX_NETWORKS);

  /** Takes figures. Quick; never throws. */
  put(agentId: string, { network: status }: NetworkTelemetry, nowMs: number): void {
    if (status !== undefined) this.#latest.keep(agentId, status.name, status, nowMs);
  }

  /** The latest figures, unless they are too old to say anything. */
  latest(agentId: string, name: string, nowMs: number): NetworkFigures | undefined {
    const latest = this.#latest.find(agentId, name, nowMs);
    return latest && { status: latest.figures, atMs: latest.atMs };
  }
}

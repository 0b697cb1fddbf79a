// Counts tunnels around what opens them; it changes nothing of what becomes of them.
import type { OpenTunnel } from '#gen/longline/link/v1/link_pb.js';
import { toLonglineError } from '../../core/errors.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import type { TunnelTarget, TunnelTargets } from '../../link/ports.ts';
import { TUNNEL_METRICS } from '../../telemetry/metrics/agent-names.ts';

const KINDS = ['port', 'exec', 'attach'] as const;

/** One per process. */
export class TunnelMeter {
  readonly #open;
  readonly #ended;

  constructor(registry: MetricRegistry) {
    this.#open = registry.gauge(TUNNEL_METRICS.open);
    this.#ended = registry.counter(TUNNEL_METRICS.ended);
    // There from the start, so that the first one shows as a rise.
    for (const kind of KINDS) {
      this.#open.add(0, kind);
      this.#ended.add(0, kind, 'succeeded');
    }
  }

  /** Counts what is reached through these. */
  targets(inner: TunnelTargets): TunnelTargets {
    return { reach: (ask, signal) => this.#reach(inner, ask, signal) };
  }

  async #reach(inner: TunnelTargets, ask: OpenTunnel, signal: AbortSignal): Promise<TunnelTarget> {
    const kind = ask.process.case ?? 'port';
    try {
      const target = await inner.reach(ask, signal);
      this.#open.add(1, kind);
      return this.#counted(target, kind);
    } catch (error) {
      this.#ended.add(1, kind, toLonglineError(error).reason);
      throw error;
    }
  }

  #counted(target: TunnelTarget, kind: string): TunnelTarget {
    let outcome = 'succeeded';
    let over = false;
    return {
      woken: target.woken,
      run: async (tunnel) => {
        try {
          await target.run(tunnel);
        } catch (error) {
          outcome = toLonglineError(error).reason;
          throw error;
        }
      },
      [Symbol.asyncDispose]: async () => {
        try {
          await target[Symbol.asyncDispose]();
        } finally {
          if (!over) {
            this.#open.add(-1, kind);
            this.#ended.add(1, kind, outcome);
          }
          over = true;
        }
      },
    };
  }
}

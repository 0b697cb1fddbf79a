// Tunnels of agents: those that are awaited, where the controller asked with OpenTunnel and the agent's Tunnel call meets
// who waits for it here; and those that are open, until their owner ends them. Owners are told when a call is lost.
import type { TunnelOpen } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { TunnelEnd } from '../../core/tunnel/tunnel-end.ts';
import { agentTunnel, type TunnelCall } from './agent-tunnel.ts';
import { errorFromWire } from './wire.ts';

/** A tunnel that was opened. Its owner ends it. */
export interface OpenedTunnel {
  readonly tunnel: TunnelEnd;
  /** The session slept and was woken for it. */
  readonly woken: boolean;
  /** Ends the call, with an error as its status if one is given. May be called twice. */
  end(error?: LonglineError): void;
}

/** Tunnels that may be awaited at once. */
const MAX_AWAITED = 10_000;

interface Awaited {
  readonly agentId: string;
  readonly opened: PromiseWithResolvers<OpenedTunnel>;
}

/** Matches Tunnel calls with those who wait for them. */
export class TunnelRegistry {
  readonly #clock: Clock;
  readonly #awaited = new Map<string, Awaited>();
  readonly #open = new Set<TunnelEnd>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Tunnels that are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Resolves with the tunnel that the agent opens; throws `late` after `timeoutMs`, or what the agent says went wrong. */
  async expect(tunnelId: string, agentId: string, timeoutMs: number, signal?: AbortSignal): Promise<OpenedTunnel> {
    if (this.#awaited.size >= MAX_AWAITED)
      throw new LonglineError('limit', `${MAX_AWAITED} tunnels are awaited already`);
    const opened = Promise.withResolvers<OpenedTunnel>();
    this.#awaited.set(tunnelId, { agentId, opened });
    const over = new AbortController();
    const late = this.#clock.sleep(timeoutMs, over.signal).then(() => {
      throw new LonglineError('late', `agent ${agentId} opened no tunnel within ${timeoutMs} ms`);
    });
    late.catch(() => undefined);
    const onAbort = () => opened.reject(new LonglineError('cancelled', 'the caller left'));
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    try {
      return await Promise.race([opened.promise, late]);
    } catch (error) {
      // It may be opened in this very moment, and would have no owner.
      opened.promise.then(
        (tunnel) => tunnel.end(new LonglineError('cancelled', 'nobody waits for the tunnel any more')),
        () => undefined,
      );
      throw error;
    } finally {
      this.#awaited.delete(tunnelId);
      over.abort();
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Hands a call to whoever waits for it; settles when they are done with it. */
  async handOver(call: TunnelCall, agentId: string, open: TunnelOpen): Promise<void> {
    const awaited = this.#awaited.get(open.tunnelId);
    if (awaited === undefined || awaited.agentId !== agentId) {
      throw new LonglineError(
        'not_found',
        `no tunnel '${open.tunnelId.slice(0, 64)}' is awaited from agent ${agentId}`,
      );
    }
    this.#awaited.delete(open.tunnelId);
    if (open.error !== undefined) {
      awaited.opened.reject(errorFromWire(open.error));
      return;
    }
    const tunnel = agentTunnel(call, agentId);
    const done = Promise.withResolvers<void>();
    tunnel.failed.addEventListener('abort', () => done.reject(tunnel.failed.reason), { once: true });
    if (tunnel.failed.aborted) done.reject(tunnel.failed.reason);
    const end = (error?: LonglineError) => (error === undefined ? done.resolve() : done.reject(error));
    this.#open.add(tunnel);
    awaited.opened.resolve({ tunnel, woken: open.woken, end });
    try {
      await done.promise;
    } finally {
      this.#open.delete(tunnel);
    }
  }

  /** Ends all that are open. */
  endAll(reason: LonglineError): void {
    for (const tunnel of this.#open) tunnel.fail(reason);
  }
}

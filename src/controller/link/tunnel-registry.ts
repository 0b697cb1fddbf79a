// Tunnels that are awaited: the controller asks an agent for one with OpenTunnel, the agent opens a Tunnel call, and here
// the two meet. Whoever asked owns the call from then on and tells when it is done with it.
import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { TunnelOpen, TunnelRequest, TunnelResponse } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';

/** A Tunnel call as grpc-js gives it. */
export type TunnelCall = ServerDuplexStream<TunnelRequest, TunnelResponse>;

/** A tunnel that was opened. Its first message was taken. Dispose it to end the call. */
export interface OpenedTunnel extends Disposable {
  readonly call: TunnelCall;
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

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves with the call that the agent opens; throws `late` after `timeoutMs`, or what the agent says went wrong. */
  async expect(tunnelId: string, agentId: string, timeoutMs: number): Promise<OpenedTunnel> {
    if (this.#awaited.size >= MAX_AWAITED)
      throw new LonglineError('limit', `${MAX_AWAITED} tunnels are awaited already`);
    const opened = Promise.withResolvers<OpenedTunnel>();
    this.#awaited.set(tunnelId, { agentId, opened });
    const over = new AbortController();
    const late = this.#clock.sleep(timeoutMs, over.signal).then(() => {
      throw new LonglineError('late', `agent ${agentId} opened no tunnel within ${timeoutMs} ms`);
    });
    late.catch(() => undefined);
    try {
      return await Promise.race([opened.promise, late]);
    } finally {
      this.#awaited.delete(tunnelId);
      over.abort();
    }
  }

  /** Hands a call to whoever waits for it; resolves when they are done with it. */
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
      awaited.opened.reject(new LonglineError('unavailable', `agent ${agentId}: ${open.error.message}`));
      return;
    }
    const done = Promise.withResolvers<void>();
    call.once('close', () => done.resolve());
    call.once('cancelled', () => done.resolve());
    awaited.opened.resolve({ call, [Symbol.dispose]: () => done.resolve() });
    await done.promise;
  }
}

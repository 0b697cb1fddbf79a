// The agent's tunnels over one connection: reaches what the controller asks for, opens a Tunnel call and moves bytes
// until both directions ended. Each tunnel has its own call and its own window, so none waits for another. It knows no
// sessions; what is reached is handed in. A tunnel that fails tells the controller why, and takes nothing else along.
import { create } from '@bufbuild/protobuf';
import {
  AgentLinkService,
  type OpenTunnel,
  type TunnelRequest,
  TunnelRequestSchema,
  type TunnelResponse,
} from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../core/clock.ts';
import { describeError, LonglineError, toLonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { ATTRIBUTE, SPAN } from '../core/span-names.ts';
import { noTracer, type Tracer, traced } from '../core/tracer.ts';
import { TunnelEnd } from '../core/tunnel/tunnel-end.ts';
import type { Connection } from './connection.ts';
import type { DuplexCall } from './grpc-client.ts';
import type { TunnelTarget, TunnelTargets } from './ports.ts';
import { tunnelFrame, tunnelRequest } from './tunnel-wire.ts';
import { timeMs, wireError } from './wire.ts';

type TunnelCall = DuplexCall<TunnelRequest, TunnelResponse>;

/** Tunnels of one connection; streams of an HTTP/2 connection are limited, and some are taken by the other calls. */
const MAX_TUNNELS = 200;
/** Refusals are calls too. Beyond these, asking goes unanswered and ends with the controller's own limit. */
const MAX_CALLS = MAX_TUNNELS + 24;
const LONGEST_REACH_MS = 300_000;
/** How long a finished tunnel waits for the controller to take its last bytes. */
const CLOSE_LIMIT_MS = 10_000;

/** What tunnels are made from. */
export interface TunnelRelayOptions {
  readonly connection: Pick<Connection, 'call'>;
  /** Undefined if nothing here can be reached. */
  readonly targets: TunnelTargets | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
}

/** Tunnels over one connection. Its owner calls `end` before the connection goes. */
export class TunnelRelay {
  readonly #options: TunnelRelayOptions;
  readonly #tunnels = new Set<AbortController>();
  #emptied: (() => void) | undefined;
  #ended: LonglineError | undefined;

  constructor(options: TunnelRelayOptions) {
    this.#options = options;
  }

  /** Tunnels that are open or on their way. */
  get size(): number {
    return this.#tunnels.size;
  }

  /** Answers one OpenTunnel, in the background. Never throws. */
  open(ask: OpenTunnel): void {
    const { log } = this.#options;
    if (this.#ended !== undefined || this.#tunnels.size >= MAX_CALLS) {
      log.warn('a tunnel is not opened', { sessionId: ask.sessionId, open: this.#tunnels.size });
      return;
    }
    const over = new AbortController();
    this.#tunnels.add(over);
    this.#serve(ask, over.signal)
      .catch((error: unknown) => log.warn('a tunnel failed', { sessionId: ask.sessionId, err: describeError(error) }))
      .finally(() => {
        this.#tunnels.delete(over);
        if (this.#tunnels.size === 0) this.#emptied?.();
      });
  }

  /** Resolves when no tunnel is open, or the signal aborts. One waiter. */
  async idle(signal: AbortSignal): Promise<void> {
    if (this.#tunnels.size === 0 || signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const stop = () => resolve();
    this.#emptied = stop;
    signal.addEventListener('abort', stop, { once: true });
    await promise;
    signal.removeEventListener('abort', stop);
  }

  /** Ends all tunnels with a reason, which is sent if the connection still takes it. No new ones are opened. */
  end(reason: LonglineError): void {
    this.#ended = reason;
    for (const tunnel of this.#tunnels) tunnel.abort(reason);
  }

  async #serve(ask: OpenTunnel, over: AbortSignal): Promise<void> {
    let target: TunnelTarget | undefined;
    let refusal: LonglineError | undefined;
    try {
      const { sessionId, traceparent: parent } = ask;
      const { tracer = noTracer } = this.#options;
      const traces = { parent, kind: 'consumer', attributes: { [ATTRIBUTE.sessionId]: sessionId } } as const;
      target = await traced(tracer, SPAN.reach, traces, () => this.#reach(ask, over));
    } catch (error) {
      refusal = toLonglineError(error);
      if (refusal.reason === 'internal') this.#options.log.error('a tunnel failed', { err: describeError(error) });
    }
    try {
      if (over.aborted) return;
      const call = this.#options.connection.call(AgentLinkService.method.tunnel);
      const { tunnelId } = ask;
      const open = target === undefined ? { tunnelId, error: wireError(refusal) } : { tunnelId, woken: target.woken };
      await call.write(create(TunnelRequestSchema, { message: { case: 'open', value: open } }));
      if (target === undefined) return await finish(call, drain(call));
      await this.#carry(call, target, over);
    } finally {
      await target?.[Symbol.asyncDispose]();
    }
  }

  /** The target, within the time that the controller gives. */
  async #reach(ask: OpenTunnel, over: AbortSignal): Promise<TunnelTarget> {
    const { targets, clock } = this.#options;
    if (targets === undefined) throw new LonglineError('unsupported', 'this agent has no sessions to reach into');
    if (this.#tunnels.size > MAX_TUNNELS) {
      throw new LonglineError('limit', `${MAX_TUNNELS} tunnels are open on this agent; close some`);
    }
    const leftMs = (timeMs(ask.expireTime) ?? 0) - clock.now();
    if (leftMs <= 0) throw new LonglineError('late', 'the tunnel was to be opened before now, by this host’s clock');
    const limitMs = Math.min(leftMs, LONGEST_REACH_MS);
    const limit = new AbortController();
    const stop = () => limit.abort(over.reason);
    over.addEventListener('abort', stop, { once: true });
    const late = new LonglineError('late', `the session could not be reached within ${Math.round(limitMs)} ms`);
    const timer = setTimeout(() => limit.abort(late), limitMs);
    try {
      return await targets.reach(ask, limit.signal);
    } catch (error) {
      throw limit.signal.aborted ? limit.signal.reason : error;
    } finally {
      clearTimeout(timer);
      over.removeEventListener('abort', stop);
    }
  }

  async #carry(call: TunnelCall, target: TunnelTarget, over: AbortSignal): Promise<void> {
    const tunnel = new TunnelEnd((frame) => call.write(tunnelRequest(frame)));
    const stop = () => tunnel.fail(toLonglineError(over.reason));
    over.addEventListener('abort', stop, { once: true });
    if (over.aborted) stop();
    const reading = receive(call, tunnel);
    try {
      await target.run(tunnel);
    } catch (error) {
      const failed = wireError(error);
      await within(
        CLOSE_LIMIT_MS,
        call.write(create(TunnelRequestSchema, { message: { case: 'failed', value: failed } })),
      );
      this.#options.log.debug('a tunnel broke', { err: describeError(error) });
    } finally {
      over.removeEventListener('abort', stop);
      await finish(call, reading);
    }
  }
}

/** Gives the tunnel what comes, until the call ends. */
async function receive(call: TunnelCall, tunnel: TunnelEnd): Promise<void> {
  try {
    for await (const message of call.messages) {
      const frame = tunnelFrame(message);
      if (frame !== undefined) tunnel.accept(frame);
    }
    tunnel.finished();
  } catch (error) {
    tunnel.fail(toLonglineError(error));
  }
}

async function drain(call: TunnelCall): Promise<void> {
  try {
    for await (const _ of call.messages);
  } catch {
    // The refusal was told; how the call ends says nothing more.
  }
}

/** Ends the call in good order if the controller follows in time, else at once. */
async function finish(call: TunnelCall, reading: Promise<void>): Promise<void> {
  call.end();
  await within(CLOSE_LIMIT_MS, reading);
  call.cancel();
}

/** Waits for a promise, but no longer than this; its failure counts as its end. */
async function within(limitMs: number, work: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, limitMs);
  work.then(resolve, resolve);
  await promise;
  clearTimeout(timer);
}

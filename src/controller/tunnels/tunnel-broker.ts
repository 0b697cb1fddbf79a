// Opens tunnels for callers: finds the session's agent, asks it, waits for its call, and carries bytes until the end. It
// knows neither RPC nor WebSocket; those hand in their end. Every tunnel is logged with who opened it, what it reached,
// how much went through and why it ended. Limits keep one caller, session or agent from using up what belongs to all.
import { randomBytes } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { OpenTunnelSchema } from '#gen/longline/link/v1/link_pb.js';
import type { SignedPayload } from '#gen/longline/v1/signature_pb.js';
import type { TunnelTarget } from '#gen/longline/v1/tunnel_pb.js';
import type { Clock } from '../../core/clock.ts';
import { type LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { noTracer, type Tracer } from '../../core/tracer.ts';
import type { TunnelStream } from '../../core/tunnel/tunnel-frame.ts';
import { relayTunnel } from '../../core/tunnel/tunnel-relay.ts';
import type { Bus } from '../bus/bus.ts';
import { agentTopic } from '../bus/topics.ts';
import type { Caller } from '../identity/api-tokens.ts';
import type { OpenedTunnel, TunnelRegistry } from '../link/tunnel-registry.ts';
import type { StatementSigner } from '../signer/statement-signer.ts';
import type { Store } from '../store/store.ts';
import { checkOffered, findReachable, type ReachableSession } from './session-lookup.ts';
import { TunnelCounts } from './tunnel-counts.ts';
import type { TunnelLimits } from './tunnel-limits.ts';
import { tunnelStatement } from './tunnel-statement.ts';
import { type TargetFields, targetFields, targetText } from './tunnel-target.ts';

/** How far an agent's clock may be ahead of ours; who waits here waits no longer for it. */
const CLOCK_SKEW_MS = 60_000;

/** What a caller asks for. */
export interface TunnelAsk {
  readonly sessionId: string;
  readonly target: TunnelTarget | undefined;
  /** True to refuse rather than wake a session that sleeps. */
  readonly noWake: boolean;
  /** Signed elsewhere; undefined to have the controller sign. */
  readonly signed: SignedPayload | undefined;
  readonly caller: Caller;
  /** For the log: how the caller came. */
  readonly via: 'rpc' | 'websocket';
}

/** A tunnel that is open. */
export interface TunnelFacts {
  readonly tunnelId: string;
  readonly woken: boolean;
}

/** What the broker is made from. */
export interface TunnelBrokerParts {
  readonly store: Store;
  readonly bus: Bus;
  readonly registry: TunnelRegistry;
  readonly signer: StatementSigner;
  readonly clock: Clock;
  readonly log: Logger;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
  readonly limits: TunnelLimits;
}

/** One per controller process. */
export class TunnelBroker {
  readonly #parts: TunnelBrokerParts;
  readonly #counts: TunnelCounts;

  constructor(parts: TunnelBrokerParts) {
    this.#parts = parts;
    this.#counts = new TunnelCounts(parts.limits);
  }

  /**
   * Opens a tunnel and carries bytes until it ends. `opened` is called once it is open and gives the caller's end.
   * Throws why it couldn't be opened, or what broke.
   */
  async carry(ask: TunnelAsk, signal: AbortSignal, opened: (facts: TunnelFacts) => TunnelStream): Promise<void> {
    const { clock, log } = this.#parts;
    const target = targetFields(ask.target);
    const session = await findReachable(this.#parts.store, ask.sessionId);
    if (target.process.case === undefined) checkOffered(session, target.port);
    using _ = this.#counts.enter(session, ask.caller.tokenId);
    const tunnelId = randomBytes(24).toString('base64url');
    const facts = {
      tunnelId,
      sessionId: session.id,
      agentId: session.agentId,
      target: targetText(target),
      creator: ask.caller.name,
      via: ask.via,
    };
    const startedMs = clock.monotonic();
    let tunnel: OpenedTunnel;
    try {
      tunnel = await this.#open(ask, session, target, tunnelId, signal);
    } catch (error) {
      log.info('tunnel refused', { ...facts, why: toLonglineError(error).message });
      throw error;
    }
    log.info('tunnel opened', { ...facts, woken: tunnel.woken, tookMs: Math.round(clock.monotonic() - startedMs) });
    const moved = { in: 0, out: 0 };
    let failure: LonglineError | undefined;
    try {
      await relayTunnel(tunnel.tunnel, opened({ tunnelId, woken: tunnel.woken }), {
        onIn: (bytes) => {
          moved.in += bytes;
        },
        onOut: (bytes) => {
          moved.out += bytes;
        },
      });
    } catch (error) {
      failure = toLonglineError(error);
      throw failure;
    } finally {
      tunnel.end(failure);
      const durationMs = Math.round(clock.monotonic() - startedMs);
      log.info('tunnel closed', {
        ...facts,
        durationMs,
        bytesIn: moved.in,
        bytesOut: moved.out,
        why: failure?.message,
      });
    }
  }

  async #open(
    ask: TunnelAsk,
    session: ReachableSession,
    target: TargetFields,
    tunnelId: string,
    signal: AbortSignal,
  ): Promise<OpenedTunnel> {
    const { bus, registry, signer, clock, limits, tracer = noTracer } = this.#parts;
    const limitMs = session.awake ? limits.openMs : limits.wakeMs;
    const nowMs = clock.now();
    const grant = {
      sessionId: session.id,
      agentId: session.agentId,
      target: ask.target!,
      nowMs,
      expiresAtMs: nowMs + limitMs + CLOCK_SKEW_MS,
    };
    const message = create(OpenTunnelSchema, {
      tunnelId,
      sessionId: session.id,
      ...target,
      expireTime: timestampFromMs(grant.expiresAtMs),
      wake: !ask.noWake,
      creator: ask.caller.name,
      traceparent: tracer.current(),
      statement: ask.signed ?? tunnelStatement(signer, grant),
    });
    const opening = registry.expect(tunnelId, session.agentId, limitMs, signal);
    // Awaited below; a failure before that must not count as unhandled.
    opening.catch(() => undefined);
    bus.publish(agentTopic(session.agentId), { kind: 'open_tunnel', message: toBinary(OpenTunnelSchema, message) });
    return await opening;
  }
}

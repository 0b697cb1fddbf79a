// Keeps one session with the controller open: dials, waits between tries, replaces a connection before it leaves the old one,
// and lets old ones end in peace. It knows when, not what: what is sent and read is the session's. It never throws for
// reasons of the network.
import { setTimeout as delay } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { type AgentMessage, AgentMessageSchema } from '#gen/longline/link/v1/link_pb.js';
import { Backoff } from '../core/backoff.ts';
import { describeError, type LonglineError, toLonglineError } from '../core/errors.ts';
import { Progress } from '../core/progress.ts';
import { factsDigest, helloMessage } from './hello.ts';
import type { Journal } from './journal.ts';
import { lastingSignal } from './lasting-signal.ts';
import type { LinkLimits } from './link-limits.ts';
import type { LinkState } from './link-state.ts';
import type { LinkTarget, TargetSource } from './ports.ts';
import { Session, type SessionHost } from './session.ts';
import { holdsSessions } from './session-reports.ts';
import { hex } from './wire.ts';

/** What keeping a session takes. */
export interface SessionKeeperParts {
  readonly host: SessionHost;
  readonly targets: TargetSource;
  readonly journal: Journal;
  readonly limits: LinkLimits;
  /** As LinkOptions.onRefused. */
  readonly onRefused?: ((error: LonglineError) => void) | undefined;
}

const CLOSE_GRACE_MS = 1000;
/** How long tunnels stay on a connection that was replaced for this side's own reasons, such as a renewed certificate. */
const TUNNEL_LINGER_MS = 3_600_000;
const MAX_DRAIN_SPREAD_MS = 10_000;
const SKEW_WARNING_MS = 60_000;
/** More than any step takes on a host that is slow: credentials, the memory of a handshake, the end of a session. */
const STEP_MS = 30_000;

/** One per link. `run` once. */
export class SessionKeeper {
  readonly #parts: SessionKeeperParts;
  readonly #backoff: Backoff;
  readonly #retiring = new Set<Promise<void>>();
  readonly #awaited = new Set<() => void>();
  readonly #progress: Progress;
  #stateNow: LinkState = { kind: 'closed', reason: 'not started' };
  #awaySinceMs: number | undefined;
  #session: Session | undefined;
  #leaderEpoch = 0n;
  #connects = 0;
  #failures = 0;
  #unknownMessages = 0;
  #roundTripMs: number | undefined;
  #clockSkewMs: number | undefined;

  constructor(parts: SessionKeeperParts) {
    this.#parts = parts;
    this.#backoff = new Backoff({ baseMs: parts.limits.backoffBaseMs, capMs: parts.limits.backoffCapMs });
    this.#progress = new Progress('link', parts.host.clock);
  }

  /** The session that is written to; undefined while there is none. */
  get session(): Session | undefined {
    return this.#session;
  }

  /** The session that is written to, as soon as there is one; undefined if the signal aborts first. */
  async opened(signal: AbortSignal): Promise<Session | undefined> {
    while (!signal.aborted && (this.#session === undefined || this.#session.over)) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const wake = () => resolve();
      this.#awaited.add(wake);
      signal.addEventListener('abort', wake, { once: true });
      await promise;
      signal.removeEventListener('abort', wake);
      this.#awaited.delete(wake);
    }
    return signal.aborted ? undefined : this.#session;
  }

  /** Epoch of this replica, as of the last try to connect. */
  get leaderEpoch(): bigint {
    return this.#leaderEpoch;
  }

  /** Whether it gets on while it has no session; what a session does has its own. */
  get progress(): Progress {
    return this.#progress;
  }

  /** Where it stands and what it went through. */
  status() {
    return {
      state: this.#state,
      awayMs: this.#awaySinceMs === undefined ? undefined : this.#parts.host.clock.monotonic() - this.#awaySinceMs,
      roundTripMs: this.#session?.roundTripMs ?? this.#roundTripMs,
      clockSkewMs: this.#clockSkewMs,
      connects: this.#connects,
      failures: this.#failures,
      unknownMessages: this.#unknownMessages + (this.#session?.unknownMessages ?? 0),
    };
  }

  /** The facts of this host changed: tells the controller now if there is one, else in the next Hello. */
  factsChanged(): void {
    if (this.#session !== undefined) this.#parts.host.outbox.putLatest('facts', this.#factsMessage());
  }

  /** Keeps a session open until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    this.#awaySinceMs = this.#parts.host.clock.monotonic();
    try {
      await this.#keep(signal);
    } finally {
      this.#progress.rest();
    }
  }

  get #state(): LinkState {
    return this.#stateNow;
  }

  set #state(state: LinkState) {
    this.#stateNow = state;
    if (state.kind === 'open') this.#awaySinceMs = undefined;
    else if (state.kind !== 'draining') this.#awaySinceMs ??= this.#parts.host.clock.monotonic();
  }

  async #keep(signal: AbortSignal): Promise<void> {
    let current: Session | undefined;
    let keep = AbortSignal.abort();
    while (!signal.aborted) {
      const next = await this.#attach(signal, current);
      if (next === undefined) break;
      await this.#replace(current, next, keep);
      current = next;
      this.#progress.rest();
      const turn = await next.turn(false, signal);
      this.#progress.expect(STEP_MS, 'the end of a connection');
      if (turn === undefined) break;
      if (turn.kind === 'drain') {
        keep = lastingSignal(turn.windowMs || TUNNEL_LINGER_MS, signal);
        await this.#beginDrain(next, turn.windowMs, turn.reason, signal);
        continue;
      }
      current = undefined;
      await this.#retire(next);
      await this.#backOff(turn.error, signal);
    }
    this.#progress.expect(STEP_MS, 'its end');
    if (current !== undefined) {
      await current.flush();
      await this.#retire(current);
    }
    await Promise.all(this.#retiring);
    this.#state = { kind: 'closed', reason: 'stopped' };
  }

  /** Tries until a session is open; undefined if the signal aborted first. */
  async #attach(signal: AbortSignal, serving: Session | undefined): Promise<Session | undefined> {
    while (!signal.aborted) {
      try {
        return await this.#connect(signal, serving?.over ? undefined : serving);
      } catch (error) {
        if (signal.aborted) return undefined;
        if (serving?.over) this.#session = undefined;
        await this.#backOff(toLonglineError(error), signal);
      }
    }
    return undefined;
  }

  async #connect(signal: AbortSignal, serving: Session | undefined): Promise<Session> {
    const { host, targets, journal } = this.#parts;
    const { log, clock, report, dispatcher, states } = host;
    const say = (state: LinkState) => {
      if (serving === undefined) this.#state = state;
    };
    say({ kind: 'connecting' });
    this.#progress.expect(host.bringUpMs + STEP_MS, 'a try to connect');
    const target = await targets.current();
    this.#leaderEpoch = target.leaderEpoch;
    const facts = report.facts();
    const hello = helloMessage(target, facts, journal, dispatcher.settledSeq, states.refs(), report.sessions?.());
    const session = await Session.open(host, target, hello, () => say({ kind: 'handshaking' }), signal);
    this.#connects += 1;
    try {
      await this.#welcomed(session, target, hex(factsDigest(facts)));
    } catch (error) {
      // Nobody else has it: left alone it would stay connected beside the next.
      await session.close(0, AbortSignal.abort());
      throw error;
    }
    this.#backoff.reset();
    const { controllerId } = session.terms;
    this.#state = { kind: 'open', controllerId, sinceMs: clock.now() };
    log.info('link is open', { controllerId, url: target.url });
    return session;
  }

  async #welcomed(session: Session, target: LinkTarget, digest: string): Promise<void> {
    const { targets, journal } = this.#parts;
    const { clock, log, outbox, report, states } = this.#parts.host;
    const { sessionToken, controllerId, needFacts, serverTimeMs } = session.terms;
    targets.proven(target);
    const memory = {
      sessionToken: hex(sessionToken),
      acknowledgedFactsDigest: needFacts ? '' : digest,
      controllerId,
    };
    await journal.putLinkMemory(memory).catch((error: unknown) => {
      log.warn('what the next Hello needs could not be kept', { err: error });
    });
    if (needFacts) outbox.putLatest('facts', this.#factsMessage());
    states.welcomed(session.terms.knownStates);
    if (!holdsSessions(session.terms.knownStates, report.sessions?.())) {
      outbox.putSessions(undefined, () => report.sessions?.() ?? []);
    }
    if (serverTimeMs === undefined) return;
    this.#clockSkewMs = serverTimeMs - clock.now();
    if (Math.abs(this.#clockSkewMs) > SKEW_WARNING_MS) {
      log.warn('clocks of controller and host differ; signed commands may be refused', { skewMs: this.#clockSkewMs });
    }
  }

  /**
   * Moves everything that is sent from one session to the next: nothing is lost, replies may be repeated. Tunnels stay
   * on the old connection until `keep` aborts.
   */
  async #replace(old: Session | undefined, next: Session, keep: AbortSignal): Promise<void> {
    await old?.stopSending();
    const { outbox, dispatcher } = this.#parts.host;
    outbox.startSession();
    dispatcher.repeat();
    this.#session = next;
    next.start();
    for (const wake of this.#awaited) wake();
    if (old === undefined) return;
    const retired = this.#retire(old, keep).finally(() => this.#retiring.delete(retired));
    this.#retiring.add(retired);
  }

  async #retire(session: Session, keep = AbortSignal.abort()): Promise<void> {
    if (this.#session === session) this.#session = undefined;
    this.#roundTripMs = session.roundTripMs ?? this.#roundTripMs;
    await session.close(CLOSE_GRACE_MS, keep);
    this.#unknownMessages += session.unknownMessages;
  }

  /** Agents that are drained together come back spread over the first half of the window. */
  async #beginDrain(session: Session, windowMs: number, reason: string, signal: AbortSignal): Promise<void> {
    this.#parts.host.log.info('connection is to be replaced', { reason, windowMs });
    this.#progress.expect(MAX_DRAIN_SPREAD_MS + STEP_MS, 'the moment to replace a connection');
    this.#state = { kind: 'draining', reason };
    const waiting = new AbortController();
    const stop = () => waiting.abort();
    signal.addEventListener('abort', stop, { once: true });
    const spreadMs = Math.random() * Math.min(windowMs / 2, MAX_DRAIN_SPREAD_MS);
    const ended = session.turn(true, waiting.signal).then(stop);
    await delay(spreadMs, undefined, { signal: waiting.signal }).catch(() => undefined);
    stop();
    signal.removeEventListener('abort', stop);
    await ended;
  }

  async #backOff(error: LonglineError, signal: AbortSignal): Promise<void> {
    this.#failures += 1;
    const { clock, log } = this.#parts.host;
    const delayMs = this.#backoff.next(Math.min(error.retryAfterMs ?? 0, this.#parts.limits.maxRetryAfterMs));
    this.#progress.expect(delayMs + STEP_MS, 'the next try to connect');
    const reason = error.message;
    if (this.#session === undefined) {
      this.#state = { kind: 'backing_off', reason, untilMs: clock.now() + delayMs };
      this.#parts.onRefused?.(error);
    }
    log.warn('no link to the controller; it is tried again', {
      reason: describeError(error),
      delayMs: Math.round(delayMs),
    });
    await clock.sleep(delayMs, signal).catch((cause: unknown) => {
      if (!signal.aborted) throw cause;
    });
  }

  #factsMessage(): AgentMessage {
    return create(AgentMessageSchema, { message: { case: 'facts', value: this.#parts.host.report.facts() } });
  }
}

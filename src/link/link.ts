// The agent's end of the link: everything between this host's capabilities and whatever controller there is. It keeps
// commands, results and output safe on disk, finds the controller again by itself, and replaces connections without loss.
// It knows no capability, no policy and no identity; those are handed in. While the controller is away nothing here fails
// or grows: `run` never throws for reasons of the network, and what can't be sent is kept, coalesced or declared lost.

import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { type AgentMessage, AgentMessageSchema, type AuditCheckpoint } from '#gen/longline/link/v1/link_pb.js';
import type { SessionStatus, SessionTelemetry } from '#gen/longline/v1/session_pb.js';
import { HostEventSchema, type MetricSample } from '#gen/longline/v1/telemetry_pb.js';
import { Backoff } from '../core/backoff.ts';
import type { HostEvent } from '../core/capability.ts';
import type { Clock } from '../core/clock.ts';
import { describeError, type LonglineError, toLonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { CommandDispatcher } from './command-dispatcher.ts';
import { TlsSessionCache } from './dial-credentials.ts';
import { factsDigest, helloMessage } from './hello.ts';
import { InputRelay } from './input-relay.ts';
import { Journal } from './journal.ts';
import { lastingSignal } from './lasting-signal.ts';
import { LINK_LIMITS, type LinkLimits } from './link-limits.ts';
import type { LinkCommand, LinkState, LinkStatus } from './link-state.ts';
import { LogSpool, type ProducerLog } from './log-spool.ts';
import { Outbox } from './outbox.ts';
import type {
  CommandAdmission,
  CommandExecutor,
  HostReport,
  LinkTarget,
  TargetSource,
  TunnelTargets,
} from './ports.ts';
import { Session, type SessionHost } from './session.ts';
import { holdsSessions } from './session-reports.ts';
import type { LogName } from './spooled-log.ts';
import { TelemetrySender } from './telemetry-sender.ts';
import { hex, wireTime } from './wire.ts';

/** What a link is made of. */
export interface LinkOptions {
  /** Folder that the link has to itself; made if it is missing (0700). */
  readonly dataDir: string;
  readonly targets: TargetSource;
  readonly admission: CommandAdmission;
  readonly executor: CommandExecutor;
  /** What tunnels reach; without it they are refused. */
  readonly tunnelTargets?: TunnelTargets;
  readonly report: HostReport;
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits?: Partial<LinkLimits>;
  /** The controller stored an audit checkpoint. */
  readonly onCheckpointAck?: (chainId: string, sequence: bigint) => void;
}

const CLOSE_GRACE_MS = 1000;
/** How long tunnels stay on a connection that was replaced for this side's own reasons, such as a renewed certificate. */
const TUNNEL_LINGER_MS = 3_600_000;
const MAX_DRAIN_SPREAD_MS = 10_000;
const SKEW_WARNING_MS = 60_000;

/** One per agent process: `open`, adopt what is in `unfinishedIds`, `resume`, `run`; disposed last. */
export class Link implements AsyncDisposable {
  readonly #options: LinkOptions;
  readonly #limits: LinkLimits;
  readonly #journal: Journal;
  readonly #spool: LogSpool;
  readonly #outbox: Outbox;
  readonly #dispatcher: CommandDispatcher;
  readonly #inputs: InputRelay;
  readonly #telemetry = new TelemetrySender();
  readonly #tlsSessions = new TlsSessionCache();
  readonly #backoff: Backoff;
  readonly #retiring = new Set<Promise<void>>();
  #state: LinkState = { kind: 'closed', reason: 'not started' };
  #session: Session | undefined;
  readonly #allSessions = () => this.#options.report.sessions?.() ?? [];
  #leaderEpoch = 0n;
  #connects = 0;
  #failures = 0;
  #unknownMessages = 0;
  #roundTripMs: number | undefined;
  #clockSkewMs: number | undefined;

  private constructor(options: LinkOptions, limits: LinkLimits, journal: Journal, spool: LogSpool) {
    this.#options = options;
    this.#limits = limits;
    this.#journal = journal;
    this.#spool = spool;
    this.#backoff = new Backoff({ baseMs: limits.backoffBaseMs, capMs: limits.backoffCapMs });
    this.#outbox = new Outbox({ maxEvents: limits.maxEvents });
    this.#dispatcher = new CommandDispatcher({
      ...options,
      journal,
      outbox: this.#outbox,
      maxUnfinished: limits.maxUnfinishedCommands,
      leaderEpoch: () => this.#leaderEpoch,
    });
    this.#inputs = new InputRelay(options.executor, options.log, () => this.#session?.wakeLogs());
  }

  /** Recovers journal and spool from disk. Throws `limit` or `unavailable` if the folder can't be used. */
  static async open(options: LinkOptions): Promise<Link> {
    const limits = { ...LINK_LIMITS, ...options.limits };
    const { dataDir, clock, log } = options;
    const journal = await Journal.open({ folder: join(dataDir, 'journal'), clock, log });
    try {
      const spool = await LogSpool.open({
        folder: join(dataDir, 'spool'),
        log,
        limits: { maxBytes: limits.spoolBytes, maxLogBytes: limits.spoolLogBytes, segmentBytes: limits.segmentBytes },
      });
      const link = new Link(options, limits, journal, spool);
      link.#reportLosses();
      return link;
    } catch (error) {
      await journal[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Commands that an earlier process received and did not end, for adoption. */
  get unfinishedIds(): ReadonlySet<string> {
    return this.#dispatcher.unfinishedIds;
  }

  /** Where output goes; the shape of OutputLogs in src/capabilities/jobs/ports.ts. */
  get logs(): { open(logId: string, kind?: string, attempt?: number): Promise<ProducerLog> } {
    return { open: (logId, kind, attempt) => this.#spool.open(logId, kind, attempt) };
  }

  /** How often the controller wants samples; undefined if it didn't say. */
  get telemetryIntervalMs(): number | undefined {
    return this.#telemetry.intervalMs;
  }

  /** Goes on with unfinished commands, and closes logs that belong to none and that `kept` does not know either. */
  async resume(kept?: (name: LogName) => boolean): Promise<void> {
    await this.#spool.closeOrphans(this.unfinishedIds, kept);
    this.#dispatcher.resume();
  }

  /** Keeps the link up until the signal aborts. Call `resume` first. */
  async run(signal: AbortSignal): Promise<void> {
    let current: Session | undefined;
    let keep = AbortSignal.abort();
    while (!signal.aborted) {
      const next = await this.#attach(signal, current);
      if (next === undefined) break;
      await this.#replace(current, next, keep);
      current = next;
      const turn = await next.turn(false, signal);
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
    if (current !== undefined) {
      await current.flush();
      await this.#retire(current);
    }
    await Promise.all(this.#retiring);
    this.#state = { kind: 'closed', reason: 'stopped' };
  }

  /** Tells the controller of something outside any command; kept until it can be sent, the oldest dropped beyond a bound. */
  emit(event: HostEvent, capability = ''): void {
    const { type, message, attributes } = event;
    const time = wireTime(this.#options.clock.now());
    const value = create(HostEventSchema, { type, time, message, attributes: { ...attributes }, capability });
    this.#outbox.putEvent(create(AgentMessageSchema, { message: { case: 'event', value } }));
  }

  /** Sends a head of the audit chain; a newer one replaces one that waits. The answer comes to `onCheckpointAck`. */
  sendAuditCheckpoint(checkpoint: AuditCheckpoint): void {
    const message = create(AgentMessageSchema, { message: { case: 'auditCheckpoint', value: checkpoint } });
    this.#outbox.putLatest(`checkpoint ${checkpoint.chainId}`, message);
  }

  /** The facts of this host changed: tells the controller now if there is one, else in the next Hello. */
  factsChanged(): void {
    if (this.#session !== undefined) this.#outbox.putLatest('facts', this.#factsMessage());
  }

  /** Makes a new connection before leaving the one that is open, for example to use a new certificate. */
  reconnect(reason: string): void {
    this.#session?.requestReplacement(reason);
  }

  /** Commands that are not over: under way, or ended with a reply the controller hasn't acknowledged. Oldest first. */
  commands(): readonly LinkCommand[] {
    const running = this.#journal.unfinished().map(({ id, capability, receivedAtMs }) => {
      return { id, capability, receivedAtMs, state: 'running' as const };
    });
    const ended = this.#journal.pendingReplies().map(({ id }) => {
      return { id, capability: '', receivedAtMs: undefined, state: 'ended' as const };
    });
    return [...running, ...ended];
  }

  /** Hands over samples; the latest of each series is sent when the link has room for it. */
  telemetry(samples: Iterable<MetricSample>): void {
    this.#telemetry.put(samples);
  }

  /** Hands over figures of sessions; the latest of each is sent when the link has room for it. */
  sessionTelemetry(figures: Iterable<SessionTelemetry>): void {
    this.#telemetry.putSessions(figures);
  }

  /** Tells the controller of sessions that changed, or of all when they became known. Kept until it can be sent. */
  sessionsChanged(changed?: Iterable<SessionStatus>): void {
    this.#outbox.putSessions(changed, this.#allSessions);
  }

  status(): LinkStatus {
    return {
      state: this.#state,
      roundTripMs: this.#session?.roundTripMs ?? this.#roundTripMs,
      clockSkewMs: this.#clockSkewMs,
      connects: this.#connects,
      failures: this.#failures,
      resumedTlsSessions: this.#tlsSessions.resumed,
      unfinishedCommands: this.#journal.unfinishedCount,
      pendingReplies: this.#journal.pendingReplyCount,
      spoolBytes: this.#spool.sizeBytes,
      spoolLogs: [...this.#spool.logs()].length,
      droppedEvents: this.#outbox.droppedEvents,
      droppedSamples: this.#telemetry.dropped,
      unknownMessages: this.#unknownMessages + (this.#session?.unknownMessages ?? 0),
    };
  }

  /** To be called before the capabilities are closed: a command that one lets go of is not failed, but left unfinished. */
  letGo(): void {
    this.#dispatcher.letGo();
  }

  /** Leaves commands to a later process, writes what waits and closes all files. `run` must have ended. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dispatcher[Symbol.asyncDispose]();
    await this.#spool[Symbol.asyncDispose]();
    await this.#journal[Symbol.asyncDispose]();
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
    const { targets, log, clock } = this.#options;
    const say = (state: LinkState) => {
      if (serving === undefined) this.#state = state;
    };
    say({ kind: 'connecting' });
    const target = await targets.current();
    this.#leaderEpoch = target.leaderEpoch;
    const facts = this.#options.report.facts();
    const { settledSeq } = this.#dispatcher;
    const hello = helloMessage(target, facts, this.#journal, settledSeq, this.#options.report.sessions?.());
    const session = await Session.open(this.#sessionHost(), target, hello, () => say({ kind: 'handshaking' }), signal);
    this.#backoff.reset();
    this.#connects += 1;
    await this.#welcomed(session, target, hex(factsDigest(facts)));
    const { controllerId } = session.terms;
    this.#state = { kind: 'open', controllerId, sinceMs: clock.now() };
    log.info('link is open', { controllerId, url: target.url });
    return session;
  }

  async #welcomed(session: Session, target: LinkTarget, digest: string): Promise<void> {
    const { targets, clock, log } = this.#options;
    const { sessionToken, controllerId, needFacts, serverTimeMs } = session.terms;
    targets.proven(target);
    const memory = {
      sessionToken: hex(sessionToken),
      acknowledgedFactsDigest: needFacts ? '' : digest,
      controllerId,
    };
    await this.#journal.putLinkMemory(memory).catch((error: unknown) => {
      log.warn('what the next Hello needs could not be kept', { err: error });
    });
    if (needFacts) this.#outbox.putLatest('facts', this.#factsMessage());
    if (!holdsSessions(session.terms.knownStates, this.#options.report.sessions?.())) this.sessionsChanged();
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
    this.#outbox.startSession();
    this.#dispatcher.repeat();
    this.#session = next;
    next.start();
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
    this.#options.log.info('connection is to be replaced', { reason, windowMs });
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
    const { clock, log } = this.#options;
    const delayMs = this.#backoff.next(Math.min(error.retryAfterMs ?? 0, this.#limits.maxRetryAfterMs));
    const reason = error.message;
    if (this.#session === undefined) this.#state = { kind: 'backing_off', reason, untilMs: clock.now() + delayMs };
    log.warn('no link to the controller; it is tried again', {
      reason: describeError(error),
      delayMs: Math.round(delayMs),
    });
    await clock.sleep(delayMs, signal).catch((cause: unknown) => {
      if (!signal.aborted) throw cause;
    });
  }

  #factsMessage(): AgentMessage {
    return create(AgentMessageSchema, { message: { case: 'facts', value: this.#options.report.facts() } });
  }

  #sessionHost(): SessionHost {
    const { clock, log, report, onCheckpointAck } = this.#options;
    return {
      clock,
      log,
      report,
      outbox: this.#outbox,
      dispatcher: this.#dispatcher,
      spool: this.#spool,
      inputs: this.#inputs,
      telemetry: this.#telemetry,
      tlsSessions: this.#tlsSessions,
      tunnelTargets: this.#options.tunnelTargets,
      channel: this.#limits.channel,
      bringUpMs: this.#limits.bringUpMs,
      logWindowBytes: this.#limits.logWindowBytes,
      logBatchBytes: this.#limits.logBatchBytes,
      onCheckpointAck: onCheckpointAck ?? (() => undefined),
      onLogDamage: (logId, message) => this.emit({ type: 'log.damaged', message, attributes: { log_id: logId } }),
    };
  }

  #reportLosses(): void {
    const { loss } = this.#journal;
    if (loss !== undefined) {
      const message = `journal lost ${loss.bytes} bytes at its end (${loss.reason})`;
      this.emit({ type: 'journal.damaged', message, attributes: { bytes: String(loss.bytes) } });
    }
    for (const [logId, losses] of this.#spool.losses) {
      const bytes = losses.reduce((sum, one) => sum + one.bytes, 0);
      const message = `spool of log ${logId} lost ${bytes} bytes at its end`;
      this.emit({ type: 'spool.damaged', message, attributes: { log_id: logId, bytes: String(bytes) } });
    }
  }
}

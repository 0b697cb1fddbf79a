// The agent's end of the link: everything between this host's capabilities and whatever controller there is. It keeps
// commands, results and output safe on disk, finds the controller again by itself, and replaces connections without loss.
// It knows no capability, no policy and no identity; those are handed in. While the controller is away nothing here fails
// or grows: `run` never throws for reasons of the network, and what can't be sent is kept, coalesced or declared lost.

import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { AgentMessageSchema, type AuditCheckpoint } from '#gen/longline/link/v1/link_pb.js';
import type { NetworkTelemetry } from '#gen/longline/v1/network_pb.js';
import type { ProgramTelemetry } from '#gen/longline/v1/program_pb.js';
import type { SessionStatus, SessionTelemetry } from '#gen/longline/v1/session_pb.js';
import { HostEventSchema, type MetricSample } from '#gen/longline/v1/telemetry_pb.js';
import type { HostEvent } from '../core/capability.ts';
import type { Clock } from '../core/clock.ts';
import type { LonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { ArtifactPiece } from '../core/programs/artifact-source.ts';
import { Progress } from '../core/progress.ts';
import { noTracer, type Tracer } from '../core/tracer.ts';
import { fetchArtifact } from './artifact-fetch.ts';
import { CommandDispatcher } from './command-dispatcher.ts';
import { DesiredStates, type DesiredStatesOptions } from './desired-states.ts';
import { TlsSessionCache } from './dial-credentials.ts';
import { InputRelay } from './input-relay.ts';
import { Journal } from './journal.ts';
import { LINK_LIMITS, type LinkLimits } from './link-limits.ts';
import type { LinkCommand, LinkStatus } from './link-state.ts';
import { LogSpool, type ProducerLog } from './log-spool.ts';
import { Outbox } from './outbox.ts';
import type { CommandAdmission, CommandExecutor, HostReport, TargetSource, TunnelTargets } from './ports.ts';
import type { SessionHost } from './session.ts';
import { SessionKeeper } from './session-keeper.ts';
import type { LogName } from './spooled-log.ts';
import { TelemetrySender } from './telemetry-sender.ts';
import { wireTime } from './wire.ts';

/** What a link is made of. */
export interface LinkOptions {
  /** Folder that the link has to itself; made if it is missing (0700). */
  readonly dataDir: string;
  readonly targets: TargetSource;
  readonly admission: CommandAdmission;
  readonly executor: CommandExecutor;
  /** What keeps desired states, and who lets it; without these they are refused. */
  readonly states?: DesiredStatesOptions['keeping'];
  /** What tunnels reach; without it they are refused. */
  readonly tunnelTargets?: TunnelTargets;
  readonly report: HostReport;
  readonly clock: Clock;
  readonly log: Logger;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
  readonly limits?: Partial<LinkLimits>;
  /** False from when another replica of this agent may lead: asked before each effect, and nothing is begun, told or sent. */
  readonly mayAct?: () => boolean;
  /** There is no connection any more, or still none, and why. Must not throw. */
  readonly onRefused?: ((error: LonglineError) => void) | undefined;
  /** The controller stored an audit checkpoint. */
  readonly onCheckpointAck?: (chainId: string, sequence: bigint) => void;
}

/** One per agent process: `open`, adopt what is in `unfinishedIds`, `resume`, `run`; disposed last. Made before capabilities are opened. */
export class Link implements AsyncDisposable {
  readonly #options: LinkOptions;
  readonly #limits: LinkLimits;
  readonly #journal: Journal;
  readonly #spool: LogSpool;
  readonly #outbox: Outbox;
  readonly #dispatcher: CommandDispatcher;
  readonly #states: DesiredStates;
  readonly #inputs: InputRelay;
  readonly #telemetry = new TelemetrySender();
  readonly #tlsSessions = new TlsSessionCache();
  readonly #keeper: SessionKeeper;
  readonly #beats: Progress;
  readonly #allSessions = () => this.#options.report.sessions?.() ?? [];

  private constructor(options: LinkOptions, limits: LinkLimits, journal: Journal, spool: LogSpool) {
    this.#options = options;
    this.#limits = limits;
    this.#journal = journal;
    this.#spool = spool;
    this.#outbox = new Outbox({ maxEvents: limits.maxEvents });
    const { clock, log, tracer = noTracer } = options;
    const outbox = this.#outbox;
    this.#dispatcher = new CommandDispatcher({
      ...options,
      journal,
      outbox,
      tracer,
      maxUnfinished: limits.maxUnfinishedCommands,
      maxReplies: limits.maxReplies,
      maxReplyBytes: limits.maxReplyBytes,
      leaderEpoch: () => this.#keeper.leaderEpoch,
      clockSkewMs: () => this.#keeper.status().clockSkewMs,
    });
    this.#beats = new Progress('link', clock);
    const { mayAct } = options;
    this.#states = new DesiredStates({ keeping: options.states, journal, outbox, clock, log, tracer, mayAct });
    this.#inputs = new InputRelay(options.executor, options.log, () => this.#keeper.session?.wakeLogs());
    const { targets, onRefused } = options;
    this.#keeper = new SessionKeeper({ host: this.#sessionHost(), targets, journal, limits, onRefused });
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
    await this.#keeper.run(signal);
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
    this.#keeper.factsChanged();
    this.#states.reconsider();
  }

  /** Makes a new connection before leaving the one that is open, for example to use a new certificate. */
  reconnect(reason: string): void {
    this.#keeper.session?.requestReplacement(reason);
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

  /** Hands over figures of networks; the latest of each is sent when the link has room for it. */
  networkTelemetry(figures: Iterable<NetworkTelemetry>): void {
    this.#telemetry.putNetworks(figures);
  }

  /** Hands over figures of programs; the latest of each is sent when the link has room for it. */
  programTelemetry(figures: Iterable<ProgramTelemetry>): void {
    this.#telemetry.putPrograms(figures);
  }

  /** Pieces of an artifact from the controller, from `offset` on; see `fetchArtifact`. Goes on over the next connection if one is cut. */
  fetchArtifact(digest: string, offset: number, signal: AbortSignal): AsyncIterable<ArtifactPiece> {
    const { artifactWaitMs: waitMs, artifactStallMs: stallMs } = this.#limits;
    const { clock } = this.#options;
    const opened = (waiting: AbortSignal) => this.#keeper.opened(waiting);
    return fetchArtifact({ clock, opened, waitMs, stallMs }, digest, offset, signal);
  }

  /** Tells the controller of sessions that changed, or of all when they became known. Kept until it can be sent. */
  sessionsChanged(changed?: Iterable<SessionStatus>): void {
    this.#outbox.putSessions(changed, this.#allSessions);
  }

  status(): LinkStatus {
    return {
      ...this.#keeper.status(),
      resumedTlsSessions: this.#tlsSessions.resumed,
      unfinishedCommands: this.#journal.unfinishedCount,
      pendingReplies: this.#journal.pendingReplyCount,
      acknowledgedReplies: this.#journal.acknowledgedCount,
      queued: this.#outbox.queued,
      journalBytes: this.#journal.sizeBytes,
      journalBacklog: this.#journal.hasBacklog,
      spoolBytes: this.#spool.sizeBytes,
      spoolLogs: [...this.#spool.logs()].length,
      storedBytes: this.#spool.storedBytes,
      lostBytes: this.#spool.lostBytes,
      journalFailure: this.#journal.failure,
      spoolFailure: this.#spool.failure,
      droppedEvents: this.#outbox.droppedEvents,
      droppedSamples: this.#telemetry.dropped,
    };
  }

  /** Whether it gets on: the keeping of connections, and the heartbeats of the one that is open. */
  get progress(): readonly Progress[] {
    return [this.#keeper.progress, this.#beats];
  }

  /** To be called before the capabilities are closed: a command that one lets go of is not failed, but left unfinished. */
  letGo(): void {
    this.#dispatcher.letGo();
  }

  /** Leaves commands to a later process, writes what waits and closes all files. `run` must have ended. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dispatcher[Symbol.asyncDispose]();
    await this.#states[Symbol.asyncDispose]();
    await this.#spool[Symbol.asyncDispose]();
    await this.#journal[Symbol.asyncDispose]();
  }

  #sessionHost(): SessionHost {
    const { clock, log, report, onCheckpointAck, mayAct, tracer } = this.#options;
    return {
      clock,
      log,
      tracer,
      report,
      mayAct: mayAct ?? (() => true),
      outbox: this.#outbox,
      dispatcher: this.#dispatcher,
      states: this.#states,
      spool: this.#spool,
      inputs: this.#inputs,
      telemetry: this.#telemetry,
      tlsSessions: this.#tlsSessions,
      tunnelTargets: this.#options.tunnelTargets,
      channel: this.#limits.channel,
      bringUpMs: this.#limits.bringUpMs,
      heartbeatMostMs: this.#limits.heartbeatMostMs,
      progress: this.#beats,
      logWindowBytes: this.#limits.logWindowBytes,
      logIdleMs: this.#limits.logIdleMs,
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

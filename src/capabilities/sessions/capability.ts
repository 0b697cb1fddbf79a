// Capability "sessions": long-lived containers that are started, put to sleep, woken and ended by commands, and kept by their
// records: over crashes of theirs, of this agent, of the engine and of the host. It knows a container engine, logs and
// registry credentials by their ports only; who may start what was decided before `handle` is called. A command that fails
// ends with a result that says why and in which state the session is. Disposing leaves everything running.
import type {
  Availability,
  Capability,
  CapabilityCommand,
  CapabilityEvent,
  CapabilityHealth,
  CapabilityHost,
  CommandContext,
  HealthChecked,
  Recoverable,
} from '../../core/capability.ts';
import { Channel } from '../../core/channel.ts';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { CredentialSource } from '../../core/images/image.ts';
import { type ImageLedger, ImagePuller } from '../../core/images/image-puller.ts';
import type { SessionAccess, SessionFacts, SessionVisit, VisitOptions } from '../../core/session-access.ts';
import { noTracer, type Tracer } from '../../core/tracer.ts';
import { admit, type HostLimits, NOTHING, type Share, total } from './admission.ts';
import { type CommandOptions, hibernateSession, startSession, stopSession, wakeSession } from './commands.ts';
import type { SessionsConfig } from './config.ts';
import { ImageCollector } from './image-collector.ts';
import { LetGo } from './interruptions.ts';
import type { StepReport } from './plan.ts';
import type { SessionEngine, SessionEngineFacts, SessionLogs, SessionMeter, SessionReports } from './ports.ts';
import { firstRecord, type SessionRecord, SessionRecords } from './record.ts';
import { sampleSessions } from './sampler.ts';
import type { SessionServices } from './services.ts';
import { Session } from './session.ts';
import { parseSessionSpec } from './spec.ts';
import { isOver, type SessionState } from './state.ts';
import { StepFailed } from './step-runner.ts';
import { Supervisor } from './supervisor.ts';
import { Visits } from './visits.ts';
import { decodeSessionAction, encodeResult, encodeStatus, encodeStep, type SessionRequest } from './wire.ts';

/** What the capability is made from. The engine stays its giver's to dispose. */
export interface SessionsCapabilityOptions {
  readonly engine: SessionEngine;
  readonly logs: SessionLogs;
  readonly credentials: CredentialSource;
  readonly reports: SessionReports;
  readonly meter?: SessionMeter | undefined;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
  /** Identifies this agent's containers among all others; the same for as long as its data folder lives. */
  readonly instanceId: string;
  /** Changes when the host boots. */
  readonly bootId: string;
  readonly config: SessionsConfig;
}

/** How much of the host is given away. */
export interface SessionCounts {
  readonly known: number;
  readonly running: number;
  readonly asleep: number;
  readonly reserved: Share;
  readonly limits: HostLimits;
}

const NO_METER: SessionMeter = {
  started: () => undefined,
  woken: () => undefined,
  slept: () => undefined,
  ended: () => undefined,
};
const MAX_STEPS = 64;
const PROGRESS_QUEUE = 256;
const KEEP_OVER_MS = 24 * 3_600_000;
const MOST_OVER = 1000;
/** More than a process notes without making it durable, so that revisions and reports never go back. */
const LEAP = 1_000_000;

/** The sessions capability. */
export class SessionsCapability implements Capability, Recoverable, HealthChecked, SessionAccess {
  readonly name = 'sessions';
  readonly #options: SessionsCapabilityOptions;
  readonly #sessions = new Map<string, Session>();
  readonly #stop = new AbortController();
  readonly #visits = new Visits((sessionId) => this.#sessions.get(sessionId));
  #services: SessionServices | undefined;
  #supervisor: Supervisor | undefined;
  #collector: ImageCollector | undefined;
  #facts: SessionEngineFacts | undefined;
  #report = 0;
  #tasks: Promise<unknown>[] = [];

  constructor(options: SessionsCapabilityOptions) {
    this.#options = options;
  }

  async open(host: CapabilityHost): Promise<Availability> {
    if (this.#services === undefined) await this.#load(host);
    try {
      this.#facts = await this.#options.engine.sessionFacts(host.signal);
      return this.#available(this.#facts);
    } catch (error) {
      const { reason, message } = toLonglineError(error);
      return {
        available: false,
        reason: reason === 'internal' ? describeError(error) : message,
        mend: 'install and start Docker or Podman, and let the agent reach its socket (docker_host in the configuration)',
      };
    }
  }

  /** As Recoverable.adopt. One list of containers; what is to be done then goes on in the background. */
  async adopt(): Promise<void> {
    const services = this.#services;
    if (services === undefined) throw new LonglineError('wrong_state', 'sessions were not opened before adoption');
    const supervisor = new Supervisor(services, this.#sessions, (session) => this.#forgetIfOld(session));
    await supervisor.look(({ record }) => record.bootId !== services.bootId);
    this.#supervisor = supervisor;
    supervisor.begin();
    const { signal } = this.#stop;
    this.#tasks = [
      sampleSessions(services, this.#sessions, this.#options.reports, signal),
      this.#collector!.run(signal),
    ];
  }

  /**
   * As Capability.handle. The events end without a result only if the capability is let go meanwhile: then the command
   * stays unfinished, and a later process goes on with it.
   */
  handle(command: CapabilityCommand, context: CommandContext): AsyncIterable<CapabilityEvent> {
    const events = new Channel<CapabilityEvent>(PROGRESS_QUEUE);
    void this.#carryOut(command, context, events).finally(() => events.close());
    return events;
  }

  facts(sessionId: string): SessionFacts | undefined {
    return this.#visits.facts(sessionId);
  }

  async visit(sessionId: string, options: VisitOptions, signal: AbortSignal): Promise<SessionVisit> {
    return await this.#visits.visit(sessionId, options, signal);
  }

  /** Where other capabilities tell of the images that they pull and use: one collector for all of an agent. */
  readonly images: ImageLedger = {
    pulled: (image, reference) => this.#collector?.pulled(image, reference),
    used: (image) => this.#collector?.used(image),
  };

  /** How many sessions there are and what they hold. */
  counts(): SessionCounts {
    const all = [...this.#sessions.values()].filter(({ state }) => !isOver(state));
    return {
      known: all.length,
      running: all.filter(({ state }) => state.kind === 'running' || state.kind === 'unhealthy').length,
      asleep: all.filter(({ state }) => state.kind === 'asleep').length,
      reserved: total(all.map((session) => session.share())),
      limits: this.#options.config.limits,
    };
  }

  /** How many sessions are in each state; also those that are over, as long as they are remembered. */
  states(): ReadonlyMap<SessionState['kind'], number> {
    const states = new Map<SessionState['kind'], number>();
    for (const { state } of this.#sessions.values()) states.set(state.kind, (states.get(state.kind) ?? 0) + 1);
    return states;
  }

  /** Sessions whose container this process has looked at and follows. */
  followed(): number {
    return [...this.#sessions.values()].filter(({ live }) => live !== undefined).length;
  }

  /** The latest status of every session, serialised; undefined until they are read. */
  statuses(): readonly Uint8Array[] | undefined {
    if (this.#services === undefined) return undefined;
    return [...this.#sessions.values()].map((session) => encodeStatus(session.view()));
  }

  /** True for the log of a session's present run, which an agent that was started anew goes on with. */
  followsLog(logId: string, attempt: number): boolean {
    for (const session of this.#sessions.values()) {
      if (session.logId === logId) return session.record.starts === attempt && !isOver(session.state);
    }
    return false;
  }

  async health(): Promise<CapabilityHealth> {
    try {
      const { kind, version } = await this.#options.engine.sessionFacts();
      const { running, asleep, reserved, limits } = this.counts();
      const room = `${reserved.cpus} of ${limits.maxCpus} cores reserved`;
      return { ok: true, detail: `${kind} ${version}: ${running} sessions run, ${asleep} sleep, ${room}` };
    } catch (error) {
      return { ok: false, detail: describeError(error), mend: 'see whether the container engine runs: docker info' };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new LonglineError('cancelled', 'the sessions capability is closed'));
    const letGo = Promise.all([...this.#sessions.values()].map((session) => session.letGo()));
    await this.#supervisor?.[Symbol.asyncDispose]();
    await letGo;
    await Promise.all(this.#tasks);
  }

  async #load(host: CapabilityHost): Promise<void> {
    const { engine, logs, credentials, instanceId, bootId, config } = this.#options;
    const { clock, log, state } = host;
    const records = new SessionRecords(state);
    const inUse = () =>
      new Set([...this.#sessions.values()].filter(({ state: now }) => !isOver(now)).map(({ imageId }) => imageId));
    const collector = new ImageCollector({ engine, state, clock, log, retention: config.images, inUse });
    this.#collector = collector;
    const services: SessionServices = {
      ...{ engine, logs, clock, log, config, instanceId, bootId, records },
      meter: this.#options.meter ?? NO_METER,
      tracer: this.#options.tracer ?? noTracer,
      puller: new ImagePuller({ engine, credentials, clock, settings: config.pull, ledger: collector }),
      emit: (event) => host.emit(event),
      nextReport: () => ++this.#report,
    };
    const found = await records.all();
    for (const sessionId of records.unreadable) {
      log.error('the record of a session can not be read; what it has is left alone until it is stopped', {
        sessionId,
      });
    }
    this.#report = LEAP + found.reduce((most, { report }) => Math.max(most, report), 0);
    for (const record of found) this.#add(services, { ...record, revision: record.revision + LEAP });
    this.#services = services;
  }

  #add(services: SessionServices, record: SessionRecord): Session {
    const session = new Session(
      services,
      {
        changed: (one) => this.#options.reports.changed(one.sessionId, encodeStatus(one.view()), false),
        admit: (one) => this.#admit(one),
        outputEnded: (one) => this.#supervisor?.suspect(one),
      },
      record,
    );
    this.#sessions.set(record.sessionId, session);
    this.#supervisor?.added();
    return session;
  }

  /** What it would hold, less what it holds now, must fit beside all others. */
  #admit(session: Session, holding: Share = session.share()): void {
    const others = [...this.#sessions.values()].filter((one) => one !== session);
    const wanted = session.share({ kind: 'running' });
    const asked = {
      cpus: wanted.cpus - holding.cpus,
      memoryBytes: wanted.memoryBytes - holding.memoryBytes,
      sessions: wanted.sessions - holding.sessions,
    };
    const reserved = total([holding, ...others.map((one) => one.share())]);
    admit(asked, reserved, this.#options.config.limits);
  }

  #available(facts: SessionEngineFacts): Availability {
    const { limits, networkName, volumeDriver } = this.#options.config;
    return {
      available: true,
      limits: {
        max_sessions: limits.maxSessions,
        max_cpus: limits.maxCpus,
        max_memory_bytes: limits.maxMemoryBytes,
      },
      attributes: {
        engine: `${facts.kind} ${facts.version}`,
        runtimes: facts.runtimes.join(','),
        network: networkName,
        volume_driver: volumeDriver,
        checkpoint: facts.checkpointMissing === undefined ? 'available' : `unavailable: ${facts.checkpointMissing}`,
      },
    };
  }

  async #carryOut(
    command: CapabilityCommand,
    context: CommandContext,
    events: Channel<CapabilityEvent>,
  ): Promise<void> {
    let sessionId = '';
    const steps: StepReport[] = [];
    const tell = (report: StepReport) => {
      if (report.pull === undefined && steps.length < MAX_STEPS) steps.push(report);
      // Steps may be coalesced: one that finds no room is in the result all the same.
      events.trySend({ kind: 'progress', detail: encodeStep(sessionId, report) });
    };
    const result = (unchanged: boolean) =>
      encodeResult(this.#sessions.get(sessionId)?.view(), unchanged, sessionId, steps);
    try {
      const request = decodeSessionAction(command.action);
      sessionId = request.sessionId;
      const options: CommandOptions = {
        tell,
        resumed: context.resumed,
        signal: context.signal,
        checkpointMissing: this.#facts?.checkpointMissing,
      };
      const unchanged = await this.#perform(request, options);
      await events.send({ kind: 'result', outcome: 'succeeded', detail: result(unchanged) });
    } catch (thrown) {
      if (thrown instanceof LetGo) return;
      const error = thrown instanceof StepFailed ? thrown.error : toLonglineError(thrown);
      if (error.reason === 'internal')
        this.#services?.log.error('a session command failed', { err: describeError(thrown) });
      const outcome = error.reason === 'cancelled' ? 'cancelled' : 'failed';
      await events.send({ kind: 'result', outcome, detail: result(false), error });
    }
  }

  async #perform(request: SessionRequest, options: CommandOptions): Promise<boolean> {
    const services = this.#services;
    if (services === undefined)
      throw new LonglineError('wrong_state', 'sessions were not opened before a command came');
    if (services.records.unreadable.has(request.sessionId)) return await this.#unreadable(services, request);
    if (request.kind === 'start') return await this.#start(services, request, options);
    const session = this.#sessions.get(request.sessionId);
    if (session === undefined)
      throw new LonglineError('not_found', `session ${request.sessionId} is not on this agent`);
    if (request.generation !== 0 && request.generation !== session.generation) {
      const message = `session ${request.sessionId}: generation ${request.generation} is meant, and ${session.generation} is here`;
      throw new LonglineError('stale', message);
    }
    if (request.kind === 'stop') return await stopSession(session, request, options);
    if (request.kind === 'hibernate') return await hibernateSession(session, request, options);
    return await wakeSession(session, request, options);
  }

  /** Nothing is known of it but its id: it can only be stopped, which takes away what carries its label. */
  async #unreadable({ records }: SessionServices, { kind, sessionId }: SessionRequest): Promise<boolean> {
    if (kind !== 'stop') {
      const why = `the record of session ${sessionId} can't be read; stop it before anything else is done with it`;
      throw new LonglineError('wrong_state', why);
    }
    await records.delete(sessionId);
    await this.#supervisor?.look(() => false);
    return false;
  }

  async #start(
    services: SessionServices,
    request: Extract<SessionRequest, { kind: 'start' }>,
    options: CommandOptions,
  ): Promise<boolean> {
    const { sessionId, generation, specHash } = request;
    const spec = parseSessionSpec(request.spec, this.#options.config);
    const known = this.#sessions.get(sessionId);
    if (known !== undefined) {
      if (generation < known.generation) {
        throw new LonglineError(
          'stale',
          `session ${sessionId}: generation ${generation} is older than ${known.generation}, which is known`,
        );
      }
      if (generation === known.generation) {
        if (specHash === known.record.specHash) return await startSession(known, false, options);
        throw new LonglineError(
          'already_exists',
          `session ${sessionId}: generation ${generation} was started with another spec`,
        );
      }
      if (!isOver(known.state)) throw known.wrongState(`a start of generation ${generation}`, 'over');
      // Its name is free once it is cleared away.
      await known.enqueue(async () => undefined);
    }
    const session = this.#add(
      services,
      firstRecord({ sessionId, generation, specHash, spec }, services.bootId, services.clock.now()),
    );
    try {
      options.tell({ step: 'admit', state: 'begun', subject: '' });
      this.#admit(session, NOTHING);
      options.tell({ step: 'admit', state: 'done', subject: '' });
    } catch (error) {
      options.tell({ step: 'admit', state: 'failed', subject: '', error: toLonglineError(error) });
      if (known === undefined) this.#sessions.delete(sessionId);
      else this.#sessions.set(sessionId, known);
      throw error;
    }
    return await startSession(session, true, options);
  }

  async #forgetIfOld(session: Session): Promise<void> {
    const { endedAtMs = 0 } = session.record;
    const isOld = this.#services!.clock.now() - endedAtMs > KEEP_OVER_MS;
    const tooMany = () => [...this.#sessions.values()].filter(({ state }) => isOver(state)).length > MOST_OVER;
    if (!isOld && (this.#sessions.size <= MOST_OVER || !tooMany())) return;
    this.#sessions.delete(session.sessionId);
    this.#report += 1;
    this.#options.reports.changed(session.sessionId, encodeStatus(session.view()), true);
    await this.#services!.records.delete(session.sessionId);
  }
}

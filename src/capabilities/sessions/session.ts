// One session: its record, and everything that happens to it, one thing after the other. Commands, crashes, idleness and
// recovery all come through one queue, so that two of them never work on one container at a time. A thing that is refused
// says in which state the session is. Written down before it is done: a later process finds what was under way.
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Share } from './admission.ts';
import type { HealthTally } from './health-check.ts';
import { probeOnce, watchHealth } from './health-watch.ts';
import { LetGo } from './interruptions.ts';
import { type FollowedRun, OutputFollower } from './output-follower.ts';
import { namesOf, type SessionNames, type Step, type StepKind, type StepReport, sessionLogId } from './plan.ts';
import type { ContainerState, SessionContainerFacts } from './ports.ts';
import type { SessionRecord } from './record.ts';
import type { SessionServices } from './services.ts';
import type { SessionSpec } from './session-spec.ts';
import { describeState, holds, type SessionState } from './state.ts';
import { StepFailed, type SteppedSession, StepRunner } from './step-runner.ts';
import { Traffic } from './traffic.ts';
import { type SessionView, viewOf } from './view.ts';

/** What a session needs of those around it. */
export interface SessionHost {
  /** Something that is told of it changed. */
  changed(session: Session): void;
  /** Throws `limit` if what it needs is not to be had. */
  admit(session: Session): void;
  /** Its container's output has ended, so that the container likely has. */
  outputEnded(session: Session): void;
}

/** Takes reports of steps. */
export type Tell = (report: StepReport) => void;

interface Live {
  readonly facts: SessionContainerFacts;
  readonly health: AbortController;
}

/** A change of a record; what isn't named stays. */
export type Change = Partial<Omit<SessionRecord, 'sessionId' | 'revision' | 'report' | 'changedAtMs'>>;

/** The state and the tools; what is done with them is in lifecycle.ts. */
export class Session implements SteppedSession {
  readonly services: SessionServices;
  readonly traffic = new Traffic();
  readonly #host: SessionHost;
  readonly runner: StepRunner;
  #record: SessionRecord;
  #tail: Promise<void> = Promise.resolve();
  #waiting = 0;
  #writing: Promise<void> = Promise.resolve();
  #operation: AbortController | undefined;
  #letGo: LetGo | undefined;
  #step: StepKind | undefined;
  #live: Live | undefined;
  #output: OutputFollower | undefined;
  #reachable = new Set<number>();
  #health: HealthTally | undefined;
  #healthOutput = '';
  /** State its container was in when the steps were planned. */
  found: ContainerState | undefined;
  stopGraceMs: number;

  constructor(services: SessionServices, host: SessionHost, record: SessionRecord) {
    this.services = services;
    this.#host = host;
    this.#record = record;
    this.stopGraceMs = record.spec.stopGraceMs;
    this.runner = new StepRunner(services, this);
  }

  get record(): SessionRecord {
    return this.#record;
  }

  get sessionId(): string {
    return this.#record.sessionId;
  }

  get generation(): number {
    return this.#record.generation;
  }

  get spec(): SessionSpec {
    return this.#record.spec;
  }

  get state(): SessionState {
    return this.#record.state;
  }

  get names(): SessionNames {
    return namesOf(this.sessionId, this.spec, this.services.config);
  }

  get containerId(): string {
    return this.#record.containerId === '' ? this.names.container : this.#record.containerId;
  }

  /** Its output in this life. */
  get logId(): string {
    return sessionLogId(this.sessionId, this.generation);
  }

  get imageId(): string {
    return this.#record.imageId;
  }

  get target() {
    return { addresses: this.#live?.facts.addresses ?? [], pid: this.#live?.facts.pid };
  }

  /** Facts of the container from when it was last seen to start. */
  get live(): SessionContainerFacts | undefined {
    return this.#live?.facts;
  }

  /** True while something is done to it or waits to be. */
  get busy(): boolean {
    return this.#waiting > 0;
  }

  /** What it holds of the host in its state, or would if it ran. */
  share(as: SessionState = this.state): Share {
    const held = holds(as);
    return {
      cpus: held === 'all' ? this.spec.cpus : 0,
      memoryBytes: held === 'nothing' ? 0 : this.spec.memoryBytes,
      sessions: held === 'nothing' ? 0 : 1,
    };
  }

  /** Throws `limit` if the host has no room for it to run. */
  admit(): void {
    this.#host.admit(this);
  }

  /** Does this once everything before it is done. The signal aborts when it is pre-empted or the agent stops. */
  enqueue<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    this.#waiting += 1;
    const result = this.#tail.then(async () => {
      if (this.#letGo !== undefined) throw this.#letGo;
      const operation = new AbortController();
      this.#operation = operation;
      return await work(operation.signal);
    });
    this.#tail = result.then(
      () => this.#settled(),
      () => this.#settled(),
    );
    return result;
  }

  /** Ends what is under way, which undoes what it did. */
  preempt(reason: LonglineError): void {
    this.#operation?.abort(reason);
  }

  /** Takes a change down, durably, and tells of it. */
  async change(change: Change): Promise<void> {
    this.#merge(change);
    await this.services.records.put(this.#record);
  }

  /** Takes a change down that follows from what is there already: told at once, durable soon after. */
  settle(change: Change): void {
    this.#merge(change);
    this.#writing = this.services.records.put(this.#record).catch((error: unknown) => {
      // A later process finds what was intended, and what is there.
      const { sessionId } = this;
      this.services.log.warn('the state of a session could not be kept', { sessionId, err: describeError(error) });
    });
  }

  /** Tells of a change that need not outlive the process. */
  note(change: Change = {}): void {
    this.#merge(change);
  }

  /** It is not idle. Told with the next change. */
  active(nowMs: number): void {
    this.#record = { ...this.#record, activeAtMs: nowMs };
  }

  /** Steps as they are taken; also shown as what the session is doing. */
  stepping(tell: Tell): Tell {
    return (report) => {
      const step = report.state === 'begun' ? report.step : undefined;
      if (step !== undefined && step !== this.#step) {
        this.#step = step;
        this.note();
      }
      tell(report);
    };
  }

  /** Takes the steps of a plan. Throws StepFailed. */
  async take(
    steps: readonly Step[],
    options: {
      readonly signal: AbortSignal;
      readonly tell: Tell;
      readonly deadlineMs?: number;
      readonly resumed?: boolean;
    },
  ): Promise<void> {
    const { signal, tell, deadlineMs = Number.POSITIVE_INFINITY, resumed = false } = options;
    try {
      await this.runner.run(steps, { signal, tell: this.stepping(tell), deadlineMs, resumed });
    } catch (error) {
      if (this.#letGo !== undefined) throw this.#letGo;
      throw error instanceof StepFailed ? error : new StepFailed(toLonglineError(error), 'start_failed');
    } finally {
      this.#step = undefined;
    }
  }

  async imageFound(image: { readonly id: string; readonly pinned: string }): Promise<void> {
    await this.change({ imageId: image.id, image: image.pinned });
  }

  async containerMade(containerId: string): Promise<void> {
    await this.change({ containerId });
  }

  async startContainer(signal: AbortSignal): Promise<void> {
    const { engine, clock, bootId } = this.services;
    if (this.found === 'paused') return await engine.unpauseContainer(this.containerId, signal);
    const { checkpoint } = this.#record;
    await this.endRun();
    const startedAtMs = clock.now();
    const starts = this.#record.starts + 1;
    const written = this.change({ starts, startedAtMs, bootId, oomKilled: false, exitCode: undefined });
    const { containerId } = this;
    const run = this.#runOf(starts, startedAtMs);
    // Side by side: attaching has no effect, and only the start has to wait for what was written.
    const [attached, durable] = await Promise.allSettled([OutputFollower.attach(this.services, run, signal), written]);
    if (attached.status === 'rejected') throw attached.reason;
    this.#output = attached.value;
    try {
      if (durable.status === 'rejected') throw durable.reason;
      if (checkpoint === undefined) await engine.startContainer(containerId, signal);
      else await engine.startCheckpoint(containerId, checkpoint, signal);
    } catch (error) {
      // Nothing will come of it. After a stop of the agent, or a lost engine, something may: it is followed again then.
      if (this.#letGo === undefined) await this.endRun(false);
      throw error;
    }
  }

  async checkpoint(signal: AbortSignal): Promise<void> {
    const checkpoint = `longline-${this.generation}-${this.#record.starts}`;
    await this.change({ checkpoint });
    await this.services.engine.checkpointContainer(this.containerId, checkpoint, signal);
  }

  running(facts: SessionContainerFacts): void {
    this.#live?.health.abort();
    this.#live = { facts, health: new AbortController() };
  }

  async probeHealth(signal: AbortSignal): Promise<void> {
    await probeOnce(this.services.engine, this.containerId, this.target, this.spec.health!, signal);
    this.#health = { failures: 0, verdict: 'healthy' };
  }

  portReady(port: number): void {
    this.#reachable.add(port);
  }

  /** Follows the output of a run that an earlier process began, or that broke off. */
  async followAgain(): Promise<void> {
    const { sessionId } = this;
    const { starts, startedAtMs = 0 } = this.#record;
    if (this.#output !== undefined || starts === 0) return;
    const run = this.#runOf(starts, startedAtMs);
    try {
      this.#output = await OutputFollower.resume(this.services, run);
    } catch (error) {
      this.services.log.warn('the log of a session could not be opened', { sessionId, err: describeError(error) });
    }
  }

  /** Watches its health from now on; `onVerdict` hears of every change. */
  watchHealth(onVerdict: (tally: HealthTally, output: string) => void): void {
    const { health: check } = this.spec;
    const live = this.#live;
    if (check === null || live === undefined) return;
    live.health.abort();
    const health = new AbortController();
    this.#live = { facts: live.facts, health };
    const watched = {
      check,
      startedAtMs: this.#record.startedAtMs ?? 0,
      active: () => ['running', 'unhealthy'].includes(this.state.kind),
      probe: async (signal: AbortSignal) =>
        await probeOnce(this.services.engine, this.containerId, this.target, check, signal),
      changed: (tally: HealthTally, output: string) => {
        this.#health = tally;
        this.#healthOutput = output;
        onVerdict(tally, output);
      },
    };
    void watchHealth(this.services, watched, this.#health, health.signal);
  }

  /** The container's run is over: its log is closed, after what is on its way if `drain`. */
  async endRun(drain = true): Promise<void> {
    this.#live?.health.abort();
    this.#live = undefined;
    this.#health = undefined;
    this.#reachable.clear();
    this.traffic.forgetReading();
    const output = this.#output;
    this.#output = undefined;
    await output?.close(drain);
  }

  /** Nothing more is done; what runs goes on. */
  async letGo(): Promise<void> {
    this.#letGo = new LetGo();
    this.#operation?.abort(this.#letGo);
    this.#live?.health.abort();
    this.#output?.letGo();
    await this.#tail;
    await this.#writing;
  }

  view(): SessionView {
    return viewOf(this.#record, this.names, {
      step: this.#step,
      reachable: this.#reachable,
      healthFailures: this.#health?.failures ?? 0,
      healthOutput: this.#healthOutput,
      openTunnels: this.traffic.open,
    });
  }

  /** A refusal that says in which state it is. */
  wrongState(verb: string, needed: string): LonglineError {
    const now = describeState(this.state);
    const why = this.#record.reason === '' ? '' : ` (${this.#record.reason})`;
    return new LonglineError(
      'wrong_state',
      `session ${this.sessionId} is ${now}${why}; ${verb} needs one that is ${needed}`,
    );
  }

  #runOf(attempt: number, startedAtMs: number): FollowedRun {
    const { sessionId, logId, containerId, spec } = this;
    const ended = () => this.#host.outputEnded(this);
    return { sessionId, logId, containerId, attempt, startedAtMs, terminal: spec.terminal, ended };
  }

  #settled(): void {
    this.#waiting -= 1;
    this.#operation = undefined;
  }

  #merge(change: Change): void {
    const { clock } = this.services;
    const before = this.#record;
    const moved = change.state !== undefined && describeState(change.state) !== describeState(before.state);
    this.#record = {
      ...before,
      ...change,
      revision: before.revision + 1,
      report: this.services.nextReport(),
      changedAtMs: moved ? clock.now() : before.changedAtMs,
    };
    this.#host.changed(this);
  }
}

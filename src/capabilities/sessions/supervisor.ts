// Watches over all sessions of a host: follows what the engine says of their containers, makes up for what it didn't say,
// and does what is due by time: restarts, ends of life, idleness, leftovers.
import { Backoff } from '../../core/backoff.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import { idleStep } from './idle.ts';
import { LetGo } from './interruptions.ts';
import * as lifecycle from './lifecycle.ts';
import { LABEL } from './plan.ts';
import type { SessionContainerRow, SessionEngineEvent } from './ports.ts';
import { type Recovery, recoveryOf } from './recovery.ts';
import type { SessionServices } from './services.ts';
import type { Session } from './session.ts';
import { isOver } from './state.ts';

const TICK_MS = 500;
const LOOK_EVERY_MS = 30_000;
const AGAIN_AFTER_MS = 5000;
/** Waits between looks at a container whose output has ended. */
const SUSPECT_AFTER_MS = [20, 100, 500, 2000, 10_000] as const;
const AT_ONCE = 8;
const silent = () => undefined;

/** One per capability. Dispose to stop watching; what runs goes on. */
export class Supervisor implements AsyncDisposable {
  readonly #services: SessionServices;
  readonly #sessions: ReadonlyMap<string, Session>;
  readonly #forget: (session: Session) => Promise<void>;
  readonly #stop = new AbortController();
  readonly #oomKilled = new Set<string>();
  readonly #triedAt = new Map<string, number>();
  #lostEngine = false;
  #running: Promise<unknown> = Promise.resolve();
  #busy = 0;
  readonly #line: (() => void)[] = [];
  /** Resolves when there is a session again. */
  #added = Promise.withResolvers<void>();

  /** @param forget lets go of a session that is long over. */
  constructor(
    services: SessionServices,
    sessions: ReadonlyMap<string, Session>,
    forget: (session: Session) => Promise<void>,
  ) {
    this.#services = services;
    this.#sessions = sessions;
    this.#forget = forget;
  }

  /** Begins to watch. */
  begin(): void {
    this.#running = Promise.all([this.#followEvents(), this.#tick(), this.#lookRegularly()]);
  }

  /**
   * Looks at all containers at once and does what is to be done about each session, in the background.
   * @param disturbed host or engine were started anew. Throws `unavailable` if the engine is away.
   */
  async look(disturbed: (session: Session) => boolean): Promise<void> {
    const { engine, instanceId } = this.#services;
    const before = new Map(
      [...this.#sessions.values()].map((session) => [session, session.busy ? undefined : session.state]),
    );
    const rows = await engine.listContainers(LABEL.instance, instanceId, this.#stop.signal);
    const bySession = new Map(rows.map((row) => [row.labels[LABEL.session] ?? '', row]));
    for (const session of this.#sessions.values()) {
      // What the engine says of one that moved meanwhile is from before that.
      if (session.busy || before.get(session) !== session.state) continue;
      const row = bySession.get(session.sessionId);
      const recovery = recoveryOf(session.record, { container: row?.state, disturbed: disturbed(session) });
      if (recovery.kind === 'nothing' || (recovery.kind === 'adopt' && session.live !== undefined)) continue;
      this.#inBackground(session, (signal) => this.#recover(session, recovery, row, signal));
    }
    await this.#sweep(rows);
  }

  /** Call when a session was added: while there is none, nothing is due. */
  added(): void {
    this.#added.resolve();
  }

  /** Looks whether a session's run is over, some times: the engine may notice a moment later, and Podman may not tell. */
  suspect(session: Session): void {
    const { containerId, starts } = session.record;
    const { clock } = this.#services;
    const watch = async () => {
      for (const waitMs of SUSPECT_AFTER_MS) {
        await clock.sleep(waitMs, this.#stop.signal);
        const { kind } = session.state;
        if ((kind !== 'running' && kind !== 'unhealthy') || session.record.starts !== starts) return;
        // What ended with the engine is seen when the engine is back, and did not end by itself.
        if (this.#lostEngine) return;
        await session.enqueue((signal) => this.#ended(session, containerId, undefined, signal));
      }
    };
    watch().catch((error: unknown) => this.#failed(session, error));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new LonglineError('cancelled', 'the sessions capability is closed'));
    this.#added.resolve();
    for (const wake of this.#line.splice(0)) wake();
    await this.#running;
  }

  async #recover(
    session: Session,
    recovery: Recovery,
    row: SessionContainerRow | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { engine } = this.#services;
    if (isOver(session.state)) return;
    const occasion = { cause: 'recovered', tell: silent, signal, resumed: true } as const;
    switch (recovery.kind) {
      case 'adopt': {
        const facts = await engine.inspectContainer(row!.id, signal);
        if (facts?.state !== 'running') return;
        session.running(facts);
        return await lifecycle.adopted(session);
      }
      case 'bring_up':
        // The rest of what its last run said, which nobody followed to its end.
        if (session.live === undefined && !isUp(row)) {
          await session.followAgain();
          await session.endRun();
        }
        return await lifecycle.restart(session, { ...occasion, reason: recovery.reason });
      case 'ended':
        return await this.#ended(session, row!.id, undefined, signal);
      case 'memory_lost': {
        const asleep = { kind: 'asleep', tier: 'stop' } as const;
        const reason = 'its memory was lost when host or engine ended; its files are kept';
        await session.endRun();
        return await session.change({ goal: asleep, state: asleep, cause: 'recovered', reason });
      }
      case 'settle': {
        const { goal } = session.record;
        if (goal.kind === 'asleep') await session.change({ state: goal });
        return;
      }
      case 'hibernate': {
        const { goal, cause, reason } = session.record;
        if (goal.kind !== 'asleep') return;
        const tier = goal.tier === 'checkpoint' ? 'stop' : goal.tier;
        return await lifecycle.hibernate(session, tier, { ...occasion, cause, reason });
      }
      case 'remove':
        return await this.#remove(session, signal);
      case 'nothing':
        return;
    }
  }

  async #remove(session: Session, signal: AbortSignal): Promise<void> {
    const { goal, cause } = session.record;
    if (goal.kind !== 'gone') return;
    await lifecycle.remove(session, goal.removeVolumes, { cause, reason: '', tell: silent, signal });
  }

  async #ended(
    session: Session,
    containerId: string,
    seenExitCode: number | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { kind } = session.state;
    if ((kind !== 'running' && kind !== 'unhealthy') || session.record.containerId !== containerId) return;
    const facts = await this.#services.engine.inspectContainer(containerId, signal);
    // Who did not see it run has its output still to read.
    if (facts !== undefined && session.live === undefined) await session.followAgain();
    // It may have been started again meanwhile, or the news be old.
    if (facts !== undefined && facts.state !== 'exited' && facts.state !== 'dead') return;
    const occasion = { cause: 'exited', reason: '', tell: silent, signal } as const;
    if (facts === undefined && seenExitCode === undefined) {
      await session.endRun();
      return await lifecycle.restart(session, { ...occasion, cause: 'recovered', reason: 'its container was removed' });
    }
    const oomKilled = this.#oomKilled.delete(containerId) || (facts?.oomKilled ?? false);
    await lifecycle.ended(
      session,
      { exitCode: facts?.exitCode ?? seenExitCode, oomKilled, unhealthy: false },
      occasion,
    );
  }

  async #followEvents(): Promise<void> {
    const { engine, clock, log } = this.#services;
    const { signal } = this.#stop;
    const backoff = new Backoff({ baseMs: 200, capMs: 5000 });
    while (!signal.aborted) {
      try {
        await this.#hearAll(engine.sessionEvents(signal), () => backoff.reset());
      } catch (error) {
        if (!signal.aborted && !this.#lostEngine) {
          log.warn('sessions lost the container engine', { detail: describeError(error) });
        }
      }
      this.#lostEngine = true;
      await clock.sleep(backoff.next(50), signal).catch(silent);
    }
  }

  /** Listens first and looks then, so that nothing falls between. */
  async #hearAll(events: AsyncIterable<SessionEngineEvent>, heard: () => void): Promise<void> {
    const iterator = events[Symbol.asyncIterator]();
    try {
      let next = iterator.next();
      next.catch(silent);
      if (this.#lostEngine) {
        await this.look(() => true);
        this.#lostEngine = false;
      }
      for (let event = await next; !event.done; event = await next) {
        heard();
        this.#hear(event.value);
        next = iterator.next();
      }
    } finally {
      await iterator.return?.();
    }
  }

  #hear(event: SessionEngineEvent): void {
    const { containerId } = event;
    for (const session of this.#sessions.values()) {
      if (session.record.containerId !== containerId) continue;
      if (event.kind === 'oom') {
        this.#oomKilled.add(containerId);
        session.note({ oomKilled: true });
      } else {
        const exitCode = event.kind === 'exited' ? event.exitCode : undefined;
        this.#inBackground(session, (signal) => this.#ended(session, containerId, exitCode, signal));
      }
      return;
    }
  }

  async #tick(): Promise<void> {
    const { clock } = this.#services;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      if (this.#sessions.size === 0) {
        this.#added = Promise.withResolvers();
        await this.#added.promise;
        continue;
      }
      await clock.sleep(TICK_MS, signal).catch(silent);
      for (const session of this.#sessions.values()) if (!signal.aborted && !session.busy) this.#due(session);
    }
  }

  #due(session: Session): void {
    const { clock } = this.#services;
    const nowMs = clock.now();
    const { state, record, spec } = session;
    const { firstStartedAtMs, activeAtMs = nowMs, goal } = record;
    if (isOver(state)) {
      this.#triedAt.delete(session.sessionId);
      this.#oomKilled.delete(record.containerId);
      void this.#forget(session).catch((error: unknown) => this.#failed(session, error));
      return;
    }
    if (goal.kind === 'gone') {
      if (this.#mayTry(session)) this.#inBackground(session, (signal) => this.#remove(session, signal));
      return;
    }
    if (spec.lifetimeMs > 0 && firstStartedAtMs !== undefined && nowMs >= firstStartedAtMs + spec.lifetimeMs) {
      const occasion = { cause: 'lifetime', reason: 'its lifetime has passed', tell: silent } as const;
      this.#inBackground(session, (signal) => lifecycle.remove(session, false, { ...occasion, signal }));
      return;
    }
    if (state.kind === 'restarting' && nowMs >= state.dueAtMs) {
      const { cause, reason } = record;
      this.#inBackground(session, (signal) => lifecycle.restart(session, { cause, reason, tell: silent, signal }));
      return;
    }
    if (spec.idle === null) return;
    const step = idleStep(state, spec.idle, activeAtMs, nowMs);
    if (step.kind === 'hibernate' && this.#mayTry(session)) {
      this.#inBackground(session, (signal) => this.#letSleep(session, signal));
    }
  }

  /** Somebody may have come since it was found idle: others can be long in the way. */
  async #letSleep(session: Session, signal: AbortSignal): Promise<void> {
    const { state, spec, record } = session;
    const nowMs = this.#services.clock.now();
    const step = spec.idle === null ? undefined : idleStep(state, spec.idle, record.activeAtMs ?? nowMs, nowMs);
    if (step?.kind !== 'hibernate') return;
    await lifecycle.hibernate(session, step.tier, { cause: 'idle', reason: 'it was idle', tell: silent, signal });
  }

  /** What failed a moment ago is not tried at every tick. */
  #mayTry(session: Session): boolean {
    const nowMs = this.#services.clock.monotonic();
    if (nowMs - (this.#triedAt.get(session.sessionId) ?? Number.NEGATIVE_INFINITY) < AGAIN_AFTER_MS) return false;
    this.#triedAt.set(session.sessionId, nowMs);
    return true;
  }

  async #lookRegularly(): Promise<void> {
    const { clock, log } = this.#services;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await clock.sleep(LOOK_EVERY_MS, signal).catch(silent);
      if (signal.aborted) return;
      await this.look(() => this.#lostEngine).catch((error: unknown) => {
        log.debug('sessions could not be looked at', { detail: describeError(error) });
      });
    }
  }

  /** Takes away what is ours by its label and belongs to no session that is still there. */
  async #sweep(rows: readonly SessionContainerRow[]): Promise<void> {
    const { engine, instanceId, log, records } = this.#services;
    const wanted = (sessionId: string) => {
      if (records.unreadable.has(sessionId)) return true;
      const session = this.#sessions.get(sessionId);
      return session !== undefined && (session.busy || !isOver(session.state));
    };
    for (const row of rows) {
      const sessionId = row.labels[LABEL.session] ?? '';
      if (wanted(sessionId)) continue;
      log.info('removing a container that no session has', { container: row.name });
      await engine.removeContainer(row.id, this.#stop.signal).catch((error: unknown) => {
        if (error instanceof LonglineError && error.reason === 'unavailable') throw error;
        log.warn('a container could not be removed yet', { container: row.name, detail: describeError(error) });
      });
    }
    for (const { name, labels } of await engine.listNetworks(this.#stop.signal)) {
      const sessionId = labels[LABEL.session];
      if (labels[LABEL.instance] !== instanceId || sessionId === undefined || wanted(sessionId)) continue;
      await engine.removeNetwork(name, this.#stop.signal).catch((error: unknown) => {
        log.warn('a network could not be removed yet', { network: name, detail: describeError(error) });
      });
    }
  }

  #inBackground(session: Session, work: (signal: AbortSignal) => Promise<void>): void {
    session
      .enqueue(async (signal) => {
        await this.#turn();
        try {
          await work(signal);
        } finally {
          this.#busy -= 1;
          this.#line.shift()?.();
        }
      })
      .catch((error: unknown) => this.#failed(session, error));
  }

  /** After a restart of the host all sessions come at once. */
  async #turn(): Promise<void> {
    while (this.#busy >= AT_ONCE && !this.#stop.signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#line.push(resolve);
      await promise;
    }
    this.#busy += 1;
  }

  #failed(session: Session, error: unknown): void {
    if (error instanceof LetGo || this.#stop.signal.aborted) return;
    const { sessionId } = session;
    this.#services.log.warn('something due for a session failed', { sessionId, detail: describeError(error) });
  }
}

function isUp(row: SessionContainerRow | undefined): boolean {
  return row !== undefined && ['running', 'paused', 'restarting'].includes(row.state);
}

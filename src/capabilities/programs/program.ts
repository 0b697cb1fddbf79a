// One program of this host, from the first effect to the last: brings it about, has it watched, goes back when it has to, and takes it
// away. All it does is done by one loop, in passes that can be begun anew at any point; what it is to be may change at any time. Failing
// is no end: it is told, and tried again at growing intervals. Disposing leaves everything as it is.
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import { PassTrace } from '../../core/pass-trace.ts';
import type { Progress } from '../../core/progress.ts';
import { WakeableSleep } from '../../core/wakeable-sleep.ts';
import { Course } from './course.ts';
import { decide, type Move } from './decision.ts';
import { Expiry } from './expiry.ts';
import { faultOf, ProgramFault } from './fault.ts';
import { HeldRecord } from './held-record.ts';
import { beginLifetime, isNoteDue, noted } from './lifetime.ts';
import { type ProgramOrder, questionOf } from './order.ts';
import * as pauses from './pauses.ts';
import type { FoundProgram } from './ports.ts';
import { programView, ttlOf } from './program-view.ts';
import { Provision } from './provision.ts';
import type { Quarantined } from './quarantine.ts';
import type { ProgramRecord } from './record.ts';
import { notedRevision } from './revision.ts';
import type { RollbackCause, RollbackRecord } from './rollback.ts';
import { RollbackRequests } from './rollback-request.ts';
import type { ProgramServices } from './services.ts';
import type { ProgramView } from './status.ts';
import { Trouble } from './trouble.ts';
import { Waiters } from './waiters.ts';
import { type WatchedRevision, watchedOf } from './watched.ts';

/** No pass makes more moves than this; the next one goes on. */
const MOST_MOVES = 32;

/** Who hears of a program. */
export interface ProgramListener {
  /** A pass is over, or the state in its life is another. */
  changed(program: Program): void;
  /** Nothing of it is left. */
  removed(program: Program): void;
}

/** One per name. */
export class Program implements AsyncDisposable {
  readonly name: string;
  readonly #services: ProgramServices;
  readonly #listener: ProgramListener;
  readonly #record: HeldRecord;
  readonly #provision: Provision;
  readonly #course: Course;
  readonly #sleep: WakeableSleep;
  readonly #trouble: Trouble;
  readonly #footing: Trouble;
  /** With the kernel or the disk: nothing can be said of the program then. */
  readonly #passing: Trouble;
  readonly #stop = new AbortController();
  readonly #waiters = new Waiters();
  readonly #rollbacks: RollbackRequests;
  readonly #expiry = new Expiry();
  readonly #trace: PassTrace;
  #order: ProgramOrder | undefined;
  #replacedBy: string | undefined;
  #preparing: AbortController | undefined;
  #loop: Promise<void> | undefined;

  /**
   * @param record of an earlier process, if there is one.
   * @param found as it was found just now; undefined for nothing.
   */
  constructor(
    name: string,
    record: ProgramRecord | undefined,
    found: FoundProgram | undefined,
    services: ProgramServices,
    listener: ProgramListener,
  ) {
    this.name = name;
    this.#services = services;
    this.#listener = listener;
    this.#record = new HeldRecord(name, record, services, () => listener.changed(this));
    this.#sleep = new WakeableSleep(services.clock);
    this.#trace = new PassTrace(services.tracer, name);
    this.#rollbacks = new RollbackRequests(name);
    this.#trouble = new Trouble(services.clock, pauses.TRY_AGAIN);
    this.#footing = new Trouble(services.clock, pauses.STAND_AGAIN);
    this.#passing = new Trouble(services.clock, pauses.STAND_AGAIN);
    this.#provision = new Provision(name, services, this.#record);
    this.#course = new Course({
      ...{ name, services, record: this.#record, trouble: this.#trouble, footing: this.#footing },
      prepared: async (revision, signal) => await this.#provision.prepared(revision, signal),
      tell: (say) => say(services.announcer, this.view()),
    });
    this.#course.pursuit.know(found);
  }

  /** What it is to be; undefined if it is to go. */
  get order(): ProgramOrder | undefined {
    return this.#order;
  }

  get progress(): Progress {
    return this.#provision.progress;
  }

  get record(): ProgramRecord {
    return this.#record.now;
  }

  /** What is watched of it, and how it is judged; undefined while nothing runs. */
  get watched(): WatchedRevision | undefined {
    return watchedOf(this.#record.now, this.#order, this.#services.config);
  }

  /** Says what it is to be, or that it is to go. Resolves after a whole pass over that, however it went, or at the end. */
  async want(order: ProgramOrder | undefined): Promise<void> {
    if (order?.whole !== this.#order?.whole) {
      this.#trace.asked();
      this.#preparing?.abort(new LonglineError('cancelled', 'something else is asked for'));
    }
    this.#order = order;
    if (order !== undefined) this.#record.adopt(order);
    await this.#ask();
  }

  /** Gives its place up to another one. Resolves after a pass over that. */
  async giveWay(by: string): Promise<void> {
    this.#replacedBy = by;
    await this.#ask();
  }

  /** Looks again soon; what was in the way may be gone. */
  wake(): void {
    this.#trouble.hurry();
    this.#footing.hurry();
    this.#sleep.ring();
  }

  /**
   * Goes back to the revision before, or is unloaded for want of one. Resolves with how that ended. Throws as RollbackRequests.ask does;
   * `unavailable` if the agent stops before.
   */
  async rollBack(cause: RollbackCause, of: Parameters<RollbackRequests['ask']>[1] = {}): Promise<RollbackRecord> {
    const done = this.#rollbacks.ask(cause, of, this.#record.now);
    this.#preparing?.abort(new LonglineError('cancelled', 'a rollback goes before'));
    this.#sleep.ring();
    return await done;
  }

  /** As it is now. */
  view(): ProgramView {
    return programView({
      record: this.#record.now,
      order: this.#order,
      found: this.#course.pursuit.found,
      blocked: this.#blocked(),
      problems: [
        ...this.#trouble.problems(this.#order?.whole ?? ''),
        ...this.#footing.problems(),
        ...this.#passing.problems(),
      ],
      expiresAtMs: this.#expiry.atMs,
    });
  }

  /** Unloads it, for a host that is to be left clean; what it is to be stays kept. Only once it was disposed. */
  async letGo(signal: AbortSignal): Promise<void> {
    await this.#course.letGo(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new LonglineError('cancelled', 'the program is let go of'));
    await this.#loop;
    this.#waiters.answer(Number.POSITIVE_INFINITY);
    this.#rollbacks.reject(new LonglineError('unavailable', 'the agent stops'));
  }

  async #ask(): Promise<void> {
    const asked = this.#waiters.ask();
    this.#loop ??= this.#trace.begin(() => this.#run());
    this.#sleep.ring();
    await asked;
  }

  async #run(): Promise<void> {
    const [{ signal }, { progress }] = [this.#stop, this.#provision];
    while (!signal.aborted) {
      const asked = this.#waiters.asked;
      progress.expect(pauses.PASS_LIMIT_MS, 'a pass');
      const pauseMs = await this.#trace.pass(
        () => this.#pass(signal),
        () => this.view().problems[0]?.error,
      );
      if (signal.aborted) break;
      this.#waiters.answer(asked);
      if (pauseMs === 'ended' && asked === this.#waiters.asked) {
        this.#loop = undefined;
        progress.rest();
        this.#listener.removed(this);
        return;
      }
      this.#listener.changed(this);
      const restMs = pauseMs === 'ended' ? 0 : pauseMs;
      progress.expect(restMs + pauses.LATE_MS, 'the next pass');
      await this.#sleep.sleep(restMs, signal);
      this.#course.pursuit.doubt();
    }
    progress.rest();
  }

  /** Gives how long to wait for the next one. */
  async #pass(signal: AbortSignal): Promise<number | 'ended'> {
    try {
      for (let moves = 0; moves < MOST_MOVES; moves++) {
        await this.#dropStale();
        await this.#course.pursue(signal);
        const move = this.#decide();
        if (move.kind === 'end') return await this.#end();
        if (move.kind === 'rest') {
          this.#passing.over();
          this.#settle();
          return await this.#rest(move.forMs);
        }
        await this.#make(move, signal);
      }
      this.#services.log.warn('a program does not come to rest', {
        program: this.name,
        life: this.#record.now.life.kind,
      });
      return pauses.RESTLESS_MS;
    } catch (error) {
      if (signal.aborted) return 0;
      return this.#passFailed(error);
    }
  }

  /** An update that is no longer what is wanted, or must not be any more. */
  async #dropStale(): Promise<void> {
    const { goal, next } = this.#record.now;
    if (goal.kind !== 'update') return;
    const order = this.#order;
    const replacing =
      this.#replacedBy !== undefined || this.#rollbacks.of(this.#record.now.current?.number) !== undefined;
    const isWanted = next !== undefined && order?.whole === next.whole;
    if (!isWanted || replacing || this.#blocked() !== undefined) await this.#course.abandon();
  }

  #decide(): Move {
    const [services, order] = [this.#services, this.#order];
    return decide({
      record: this.#record.now,
      order,
      now: services.moment(),
      nowMs: services.clock.monotonic(),
      blocked: this.#blocked() !== undefined,
      retryAtMs: order === undefined ? 0 : this.#trouble.retryAtMs(order.whole),
      ttlMs: ttlOf(this.#record.now, order, services.config),
      probationMs: services.config.probationMs,
      replacedBy: this.#replacedBy,
      rollback: this.#rollbacks.of(this.#record.now.current?.number),
    });
  }

  /** Nothing more comes of what was asked for before this pass. */
  #settle(): void {
    this.#replacedBy = undefined;
    this.#rollbacks.reject();
    if (this.#record.now.current === undefined && this.#blocked() !== undefined) this.#record.liveIfItCan('failed');
  }

  async #make(move: Exclude<Move, { kind: 'end' | 'rest' }>, signal: AbortSignal): Promise<void> {
    const order = this.#order;
    const record = this.#record;
    const { moment, clock } = this.#services;
    const { current, lifetime } = record.now;
    switch (move.kind) {
      case 'stop':
        return await this.#stopFor(move.why);
      case 'begin':
        return await this.#begin(order!);
      case 'renew':
        await this.#services.quarantine.renew(questionOf(order!));
        this.#trouble.over();
        return await record.keep({
          renewal: String(order!.spec.renewal),
          lifetime: lifetime === undefined ? undefined : beginLifetime(moment()),
        });
      case 'note':
        return await record.keep({ source: order!.source, current: notedRevision(current!, order!) });
      case 'watch':
        return await record.keep({ current: { ...current!, probation: beginLifetime(moment()) } }, 'watched');
      case 'pass': {
        const activeAtMs = current!.activeAtMs ?? clock.now();
        return await record.keep({ current: { ...current!, activeAtMs, probation: undefined } }, 'passed');
      }
      case 'roll_back':
        return await this.#rollBackNow(move.cause, signal);
      case 'prepare':
        return await this.#prepare(order!, signal);
    }
  }

  async #stopFor(why: 'removed' | 'expired' | 'replaced'): Promise<void> {
    const record = this.#record;
    const goal = { kind: 'stop', why } as const;
    this.#trouble.over();
    if (why === 'removed') {
      const was = record.now.current;
      await record.keep({ goal, next: undefined }, ...record.ifItCan('detached'));
      if (was !== undefined) this.#services.announcer.unloaded(this.view(), was, 'it is not wanted any more');
      return;
    }
    const by = this.#replacedBy ?? '';
    this.#replacedBy = undefined;
    const over = { why, spec: this.#order!.whole, by };
    await record.keep({ goal, over, next: undefined }, ...record.ifItCan(why === 'expired' ? 'expire' : 'detached'));
  }

  async #begin(order: ProgramOrder): Promise<void> {
    const record = this.#record;
    const wasOver = record.now.over !== undefined || record.now.goal.kind === 'stop';
    if (!wasOver) return record.live('begin');
    await this.#services.quarantine.renew(questionOf(order));
    const change = { goal: { kind: 'run' }, over: undefined, lifetime: undefined, source: order.source } as const;
    await record.keep({ ...change, renewal: String(order.spec.renewal) }, 'begin');
  }

  async #rollBackNow(cause: RollbackCause, signal: AbortSignal): Promise<void> {
    try {
      const { id } = await this.#course.decideRollback(cause);
      await this.#course.pursue(signal);
      const done = this.#record.now.lastRollback;
      if (done?.id === id) this.#rollbacks.resolve(done);
    } catch (error) {
      // Once it is on disk it is tried until it is done, whoever waits for it.
      this.#rollbacks.reject(toLonglineError(error));
      throw error;
    }
  }

  async #prepare(order: ProgramOrder, signal: AbortSignal): Promise<void> {
    const record = this.#record;
    const preparing = new AbortController();
    const stop = () => preparing.abort(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    this.#preparing = preparing;
    try {
      record.liveIfItCan('update');
      if (record.now.life.kind === 'failed') record.live('begin');
      const next = await this.#provision.nextRevision(order, this.#course.pursuit.found, preparing.signal);
      const sequence = this.#services.room.sequence(this.name);
      const lastNumber = Math.max(record.now.lastNumber, next.number);
      await record.keep({ goal: { kind: 'update' }, next, lastNumber, sequence, source: order.source });
    } catch (error) {
      if (preparing.signal.aborted) {
        signal.throwIfAborted();
        return record.liveIfItCan('gave_up');
      }
      if (!(error instanceof ProgramFault)) throw error;
      await this.#course.giveUp(order.whole, undefined, error);
    } finally {
      signal.removeEventListener('abort', stop);
      this.#preparing = undefined;
    }
  }

  async #end(): Promise<'ended'> {
    this.#services.room.leave(this.name);
    await this.#record.forget();
    return 'ended';
  }

  async #rest(forMs: number): Promise<number> {
    const { moment, clock, config } = this.#services;
    const record = this.#record;
    const { lifetime } = record.now;
    const now = moment();
    this.#expiry.note(lifetime, ttlOf(record.now, this.#order, config), now);
    if (lifetime !== undefined && isNoteDue(lifetime, now, pauses.NOTE_MS)) {
      await record.keep({ lifetime: noted(lifetime, now) });
    }
    const footing = this.#footing.isMet ? this.#footing.nextMs - clock.monotonic() : pauses.LOOK_MS;
    return Math.max(
      pauses.LEAST_PAUSE_MS,
      Math.min(forMs, footing, pauses.lookAfterMs(record.now, config.checkIntervalMs)),
    );
  }

  #passFailed(thrown: unknown): number {
    const { log, clock } = this.#services;
    const fault = faultOf('load', 'kernel', thrown);
    log.error('a pass over a program failed; it is tried again', { program: this.name, err: describeError(thrown) });
    this.#passing.met('pass', [fault]);
    this.#course.pursuit.doubt();
    this.#services.announcer.failed(this.view(), fault.field, fault);
    return Math.max(0, this.#passing.nextMs - clock.monotonic());
  }

  #blocked(): Quarantined | undefined {
    const order = this.#order;
    return order === undefined ? undefined : this.#services.quarantine.blocks(questionOf(order));
  }
}

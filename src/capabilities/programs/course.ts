// Brings a program to where its goal is, and has it go on from there after a crash at any point: what is to be done is on disk before
// the first effect, and that it was done after the last. A revision that can't be had is given up for the one that runs; one that is to
// be left is left in any case.
import { describeError, type LonglineError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import { ProgramFault } from './fault.ts';
import type { HeldRecord } from './held-record.ts';
import { canHappen, isOver, isRunning, type LifeEvent } from './lifecycle.ts';
import { beginLifetime } from './lifetime.ts';
import { missingPlaces, wholeRevision } from './plan.ts';
import type { FoundProgram } from './ports.ts';
import type { Prepared } from './preparation.ts';
import { NOTHING_WANTED, Pursuit, type PursuitManner, plannedRevision, type WantedRevisions } from './pursuit.ts';
import type { Quarantined } from './quarantine.ts';
import type { Goal, ProgramRecord } from './record.ts';
import { type RevisionRecord, remembered } from './revision-record.ts';
import type { PendingRollback, RollbackCause, RollbackRecord } from './rollback.ts';
import type { ProgramServices } from './services.ts';
import type { ProgramView } from './status.ts';
import type { Trouble } from './trouble.ts';

/** What a course is steered with. */
export interface CourseParts {
  readonly name: string;
  readonly services: ProgramServices;
  readonly record: HeldRecord;
  /** With what is wanted, by the digest of its spec. */
  readonly trouble: Trouble;
  /** With what runs, or is to: its places, or loading it again. */
  readonly footing: Trouble;
  /** Gives what a revision is loaded from; it may be had already. */
  readonly prepared: (revision: RevisionRecord, signal: AbortSignal) => Promise<Prepared>;
  /** Says something of the program as it is now. */
  readonly tell: (say: (announcer: ProgramServices['announcer'], view: ProgramView) => void) => void;
}

/** One per program. */
export class Course {
  readonly pursuit: Pursuit;
  readonly #parts: CourseParts;

  constructor(parts: CourseParts) {
    this.#parts = parts;
    this.pursuit = new Pursuit(parts.name, parts.services);
  }

  /** Goes where the goal is. Throws what keeps even what is to go from going. */
  async pursue(signal: AbortSignal): Promise<void> {
    // What was reached, or given up, leaves something that runs, and that has to be seen to.
    for (let goal: Goal | undefined; goal !== this.#now.goal; ) {
      goal = this.#now.goal;
      await this.#pursue(goal, signal);
    }
  }

  async #pursue(goal: Goal, signal: AbortSignal): Promise<void> {
    const { current } = this.#now;
    switch (goal.kind) {
      case 'run':
        return current === undefined ? await this.#reachNothing(signal) : await this.#run(current, signal);
      case 'update':
        return await this.#update(this.#now.next!, signal);
      case 'roll_back':
        return await this.#rollBack(goal.rollback, signal);
      case 'stop':
        return await this.#stop(goal.why, signal);
    }
  }

  /** An update is not wanted any more. What ran before is seen to next. */
  async abandon(): Promise<void> {
    await this.#parts.record.keep({ goal: { kind: 'run' }, next: undefined }, ...this.#gaveUp());
  }

  /** What was wanted could not be brought about; what ran before is seen to next. */
  async giveUp(about: string, next: RevisionRecord | undefined, fault: ProgramFault): Promise<void> {
    const { record, services, trouble, tell } = this.#parts;
    const counts = fault.isItsOwn && (fault.stage === 'attach' || services.config.rollBackOnVerifierFailure);
    const rollback = next === undefined || !counts ? undefined : await this.#recordRefusal(next, fault);
    const lastRollback = rollback === undefined ? {} : { lastRollback: rollback };
    const change = { goal: { kind: 'run' } as const, next: undefined, ...lastRollback };
    if (record.isStored || rollback !== undefined) await record.keep(change, ...this.#gaveUp());
    else record.live(...this.#gaveUp());
    trouble.met(about, [fault]);
    if (rollback !== undefined) tell((announcer, view) => announcer.rolledBack(view, rollback));
    tell((announcer, view) => announcer.failed(view, fault.field, fault));
  }

  /** Decides on a rollback: from here on it is seen through, also by a later process. */
  async decideRollback(cause: RollbackCause): Promise<PendingRollback> {
    const { record, services, name } = this.#parts;
    const current = this.#now.current!;
    const { clock } = services;
    const rollback = { ...cause, id: newId(), program: name, from: remembered(current), atMs: clock.now() };
    await this.#quarantine(current, this.#now.previous, cause.reason);
    await record.keep({ goal: { kind: 'roll_back', rollback } }, ...record.ifItCan('roll_back'));
    return rollback;
  }

  /** Lets go of all of it without changing what is to be: a later process brings it about again. */
  async letGo(signal: AbortSignal): Promise<void> {
    this.pursuit.doubt();
    await this.pursuit.reach(NOTHING_WANTED, this.#manner(signal), signal);
    this.#parts.services.surveillance.stopped(this.#parts.name);
  }

  get #now(): ProgramRecord {
    return this.#parts.record.now;
  }

  async #reachNothing(signal: AbortSignal): Promise<void> {
    const { services, footing, name } = this.#parts;
    await this.pursuit.reach(NOTHING_WANTED, this.#manner(signal), signal);
    footing.over();
    services.surveillance.stopped(name);
    services.room.leave(name);
  }

  async #run(current: RevisionRecord, signal: AbortSignal): Promise<void> {
    const { record, services, footing, name } = this.#parts;
    const wasThere = isWhole(current, await this.pursuit.look(signal));
    if (!wasThere) {
      services.surveillance.stopped(name);
      record.liveIfItCan('lost');
      if (footing.retryAtMs(`load ${current.number}`) > services.clock.monotonic()) return;
      if (record.now.life.kind === 'failed') record.live('begin');
    }
    const keep = listed(this.#now.previous);
    try {
      const manner = { ...this.#manner(signal), skip: this.#skipped(current) };
      const faults = await this.pursuit.reach({ run: current, ready: undefined, keep }, manner, signal);
      await this.#standing(current, [...faults.values()], !wasThere);
    } catch (error) {
      if (signal.aborted || !(error instanceof ProgramFault) || error.stage === 'attach') throw error;
      return this.#notLoaded(current, error);
    }
    await this.#keepReady(current, signal);
  }

  /** Places that could not be had a moment ago. */
  #skipped(current: RevisionRecord): ReadonlySet<string> {
    const { footing, services } = this.#parts;
    if (footing.retryAtMs('attach') <= services.clock.monotonic()) return new Set();
    return new Set(missingPlaces(plannedRevision(current), this.pursuit.found).map(({ slot }) => slot));
  }

  /** `current` is loaded, and runs at all places but those. */
  async #standing(current: RevisionRecord, faults: readonly ProgramFault[], isAnew: boolean): Promise<void> {
    const { record, services, footing, name, tell } = this.#parts;
    const found = this.pursuit.found;
    const missing = missingPlaces(plannedRevision(current), found).length;
    const runsNowhere = missing > 0 && missing === current.places.length;
    if (!runsNowhere && !isRunning(record.now.life)) record.reached('attached');
    if (runsNowhere) record.liveIfItCan('detached');
    if (faults.length > 0) {
      footing.met('attach', faults);
      for (const fault of faults.slice(0, 1)) tell((announcer, view) => announcer.failed(view, fault.field, fault));
    } else if (missing === 0 && footing.isMet) {
      footing.over();
      services.announcer.recovered(name);
    }
    services.surveillance.running(name, current);
    if (isAnew) tell((announcer, view) => announcer.loaded(view));
  }

  /** What is to run is not loaded, and can't be: as after a boot of the host, when its artifact is nowhere to be had. */
  #notLoaded(current: RevisionRecord, fault: ProgramFault): void {
    const { record, footing, tell } = this.#parts;
    footing.met(`load ${current.number}`, [fault]);
    record.liveIfItCan('failed');
    tell((announcer, view) => announcer.failed(view, fault.field, fault));
  }

  /** The revision before stays loaded, for a rollback that takes one step. Without it things go on. */
  async #keepReady(current: RevisionRecord, signal: AbortSignal): Promise<void> {
    const { record, services, name } = this.#parts;
    const { previous } = this.#now;
    if (previous === undefined || previous.number === current.number) return;
    if (isWhole(previous, await this.pursuit.look(signal))) return;
    try {
      await this.pursuit.reach({ run: current, ready: previous, keep: [] }, this.#manner(signal), signal);
    } catch (error) {
      if (signal.aborted) throw error;
      const facts = { program: name, revision: previous.number, err: describeError(error) };
      services.log.warn('the revision before can no longer be loaded; there is none to go back to', facts);
      await record.keep({ previous: undefined });
    }
  }

  async #update(next: RevisionRecord, signal: AbortSignal): Promise<void> {
    const { record, services, trouble, footing, name, tell } = this.#parts;
    const { current, previous } = this.#now;
    const wanted: WantedRevisions = { run: next, ready: undefined, keep: [...listed(current), ...listed(previous)] };
    try {
      await this.pursuit.reach(wanted, { ...this.#manner(signal), tolerant: false }, signal);
    } catch (error) {
      if (signal.aborted || !(error instanceof ProgramFault)) throw error;
      return await this.giveUp(next.whole, next, error);
    }
    record.reached('attached');
    await record.keep({
      goal: { kind: 'run' },
      current: next,
      next: undefined,
      previous: goodBefore(next, current, previous),
      lifetime: this.#now.lifetime ?? beginLifetime(services.moment()),
      over: undefined,
    });
    trouble.over();
    footing.over();
    services.surveillance.running(name, next);
    tell((announcer, view) => announcer.loaded(view));
  }

  async #rollBack(rollback: PendingRollback, signal: AbortSignal): Promise<void> {
    const { record, services, tell, name } = this.#parts;
    let { previous } = this.#now;
    let error: LonglineError | undefined;
    if (previous !== undefined) {
      try {
        const wanted = { run: previous, ready: undefined, keep: [] };
        const faults = await this.pursuit.reach(this.#withLeft(wanted), this.#manner(signal), signal);
        error = [...faults.values()][0];
      } catch (thrown) {
        if (signal.aborted || !(thrown instanceof ProgramFault)) throw thrown;
        [error, previous] = [thrown, undefined];
      }
    }
    if (previous === undefined) await this.#reachNothing(signal);
    else await this.pursuit.reach({ run: previous, ready: undefined, keep: [] }, this.#manner(signal), signal);
    const to = previous === undefined ? undefined : remembered(previous);
    const told = error === undefined ? undefined : { reason: error.reason, message: error.message };
    const done: RollbackRecord = { ...rollback, to, error: told };
    await services.history.add(done);
    const change = { goal: { kind: 'run' }, current: previous, previous: undefined, lastRollback: done } as const;
    await record.keep(change, ...record.ifItCan(previous === undefined ? 'rolled_out' : 'rolled_back'));
    if (previous !== undefined) services.surveillance.running(name, previous);
    tell((announcer, view) => announcer.rolledBack(view, done));
  }

  /** While it is gone back, what is left stays loaded: its places are known, and handed over. */
  #withLeft(wanted: WantedRevisions): WantedRevisions {
    return { ...wanted, keep: listed(this.#now.current) };
  }

  async #stop(why: 'removed' | 'expired' | 'replaced', signal: AbortSignal): Promise<void> {
    const { record, tell } = this.#parts;
    const was = this.#now.current ?? this.#now.next;
    await this.#reachNothing(signal);
    if (why === 'removed') return;
    if (isOver(this.#now.life)) return;
    const by = this.#now.over?.by ?? '';
    await record.keep({ current: undefined, previous: undefined, next: undefined }, ...record.ifItCan('gone'));
    const reason = why === 'expired' ? 'its time is over' : `${by} took its place, since there is room for no more`;
    if (was !== undefined) tell((announcer, view) => announcer.unloaded(view, remembered(was), reason));
  }

  /** On disk before what is told is done. */
  async #recordRefusal(next: RevisionRecord, fault: ProgramFault): Promise<RollbackRecord> {
    const { name, services } = this.#parts;
    const { current } = this.#now;
    await this.#quarantine(next, current, fault.message);
    const record: RollbackRecord = {
      id: newId(),
      program: name,
      from: remembered(next),
      to: current === undefined ? undefined : remembered(current),
      trigger: fault.stage === 'verifier' ? 'verifier' : 'attach',
      ...{ threshold: 0, value: 0, figures: undefined, requestedBy: '', error: undefined },
      reason: fault.message,
      atMs: services.clock.now(),
    };
    await services.history.add(record);
    return record;
  }

  async #quarantine(left: RevisionRecord, stays: RevisionRecord | undefined, reason: string): Promise<void> {
    const { name, services } = this.#parts;
    const { artifact, settings } = left;
    const entry: Quarantined = {
      artifact,
      settings: stays?.artifact === artifact ? settings : undefined,
      ...{ program: name, renewal: this.#now.renewal, reason, atMs: services.clock.now() },
    };
    await services.quarantine.add(entry);
    services.announcer.quarantined(entry);
  }

  #manner(signal: AbortSignal): PursuitManner {
    const { name, prepared, record, services } = this.#parts;
    return {
      tolerant: true,
      skip: new Set(),
      prepared: async (revision) => {
        const found = await prepared(revision, signal);
        if (canHappen(record.now.life, 'fetched') || canHappen(record.now.life, 'verified')) record.reached('verified');
        return found;
      },
      loaded: async (revision) => {
        if (canHappen(record.now.life, 'loaded')) record.live('loaded');
        await services.surveillance.loaded(name, revision, signal);
      },
    };
  }

  #gaveUp(): readonly LifeEvent[] {
    return canHappen(this.#now.life, 'gave_up') ? ['gave_up'] : this.#parts.record.ifItCan('failed');
  }
}

/** The revision to go back to once `next` runs: the last that was good, or the last at all. */
function goodBefore(
  next: RevisionRecord,
  current: RevisionRecord | undefined,
  previous: RevisionRecord | undefined,
): RevisionRecord | undefined {
  if (current === undefined || current.number === next.number) return previous;
  return current.activeAtMs !== undefined || previous === undefined ? current : previous;
}

function isWhole(revision: RevisionRecord, found: FoundProgram | undefined): boolean {
  return wholeRevision(plannedRevision(revision), found?.revisions ?? []) !== undefined;
}

function listed<T>(one: T | undefined): readonly T[] {
  return one === undefined ? [] : [one];
}

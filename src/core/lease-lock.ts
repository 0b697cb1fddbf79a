// A leader lock out of a record in a store that compares and swaps, such as a Lease of Kubernetes. Stores only read, swap and say
// what failed; who may write what is said here and in observed-lease. Each step reads first, so that a write whose
// answer was lost is found; a store that carries a write out late, or never, does no harm.
import { LonglineError } from './errors.ts';
import type { LeaderLock, LockAnswer } from './leader-lock.ts';
import { type FoundLease, type LeaseRecord, mayRelease, mayRenew, ObservedLease } from './observed-lease.ts';

/** Where one record is kept. Throws `unavailable` where the answer can't be known. */
export interface LeaseStore<Found extends FoundLease = FoundLease> extends AsyncDisposable {
  /** Names it in messages: "Lease longline/agent-1". */
  readonly name: string;
  /** The record as it is now, not as a cache has it; undefined if there is none. */
  read(signal: AbortSignal): Promise<Found | undefined>;
  /** Writes if the store still has `over` (undefined: none) in that version; false if it has another. Each write makes another version. */
  swap(over: Found | undefined, record: LeaseRecord, signal: AbortSignal): Promise<boolean>;
}

/** Whose lock it is. */
export interface LeaseLockOptions {
  /** This process and no other. */
  readonly holder: string;
  readonly ttlMs: number;
  /** Milliseconds that pass also while the process is stopped; never goes back. */
  readonly elapsed: () => number;
}

/** How often somebody else may come between a look and a write of ours, in one step. */
const MAX_TRIES = 5;

/** The lock. Disposes the store. */
export class LeaseLock<Found extends FoundLease> implements LeaderLock {
  readonly name: string;
  readonly expires = true;
  readonly #store: LeaseStore<Found>;
  readonly #options: LeaseLockOptions;
  readonly #observed: ObservedLease;

  constructor(store: LeaseStore<Found>, options: LeaseLockOptions) {
    this.name = store.name;
    this.#store = store;
    this.#options = options;
    this.#observed = new ObservedLease(options.holder, options.ttlMs);
  }

  async acquire(floor: bigint, signal: AbortSignal): Promise<LockAnswer> {
    const { holder, ttlMs, elapsed } = this.#options;
    const found = await this.#store.read(signal);
    const verdict = this.#observed.judge(found, floor, elapsed());
    if (verdict.kind === 'taken') return verdict;
    const { epoch } = verdict;
    const isOurs = await this.#store.swap(found, { holder, epoch, ttlMs }, signal);
    return isOurs ? { kind: 'acquired', epoch } : { kind: 'taken' };
  }

  async renew(epoch: bigint, signal: AbortSignal): Promise<boolean> {
    const { holder, ttlMs } = this.#options;
    return await this.#swapIf((found) => mayRenew(found, holder, epoch), { holder, epoch, ttlMs }, signal);
  }

  async release(epoch: bigint, signal: AbortSignal): Promise<void> {
    const { holder, ttlMs } = this.#options;
    await this.#swapIf((found) => mayRelease(found, holder, epoch), { holder: '', epoch, ttlMs }, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }

  /** False if what is there may not be written over. Somebody else's change to it, such as a label, is no reason to give up. */
  async #swapIf(
    may: (found: Found | undefined) => boolean,
    record: LeaseRecord,
    signal: AbortSignal,
  ): Promise<boolean> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const found = await this.#store.read(signal);
      if (!may(found)) return false;
      if (await this.#store.swap(found, record, signal)) return true;
    }
    throw new LonglineError('unavailable', `${this.name}: others changed it ${MAX_TRIES} times between look and write`);
  }
}

// One replica's part in the election: stands by until the lock is ours, then keeps it, and knows at each moment whether it
// still may act. It knows no agent and no particular lock. It never throws because a lock can't be reached: a standby tries
// again, a leader goes on until what it holds has lapsed by its own clock, which is asked anew before each effect.
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import { type LeaderLock, type LockAnswer, MAX_EPOCH } from '../../core/leader-lock.ts';
import type { Logger } from '../../core/logger.ts';
import { type ElectionEvent, type ElectionState, firstState, nextState } from './election-state.ts';
import { ElectionTally, type TermEnd } from './election-tally.ts';
import type { EpochRecord } from './epoch-record.ts';

/** What an election is made of. */
export interface ElectionOptions {
  readonly lock: LeaderLock;
  readonly epochs: Pick<EpochRecord, 'highest' | 'keep'>;
  /** How long a hold lasts unless renewed; the lock was made with the same. */
  readonly ttlMs: number;
  readonly renewMs: number;
  /** How often a standby asks. */
  readonly retryMs: number;
  readonly clock: Pick<Clock, 'sleep'>;
  /** Milliseconds that pass while the process is stopped and while the host sleeps; see lastingTime. */
  readonly elapsed: () => number;
  readonly log: Logger;
  /** Called when it may have changed who leads. Must not throw. */
  readonly onHeard?: () => void;
}

/** The part of a period that is not believed in, as two clocks don't run alike. */
const MARGIN = 0.1;
/** Longest wait for the lock to be let go of at an orderly end. */
const RELEASE_LIMIT_MS = 2_000;
/** Longest wait for an epoch to be durable: a disk that hangs must not keep a replica from asking, nor others from leading. */
const KEEP_LIMIT_MS = 10_000;
/** A hold that could not be renewed is tried again after this part of the time between renewals. */
const EAGERNESS = 1 / 3;

/** A time in which this replica leads. `release` it in any case. */
export interface Term {
  readonly epoch: bigint;
  /** Aborts when it is over, for whatever reason. */
  readonly signal: AbortSignal;
  /** True if this replica may act at this moment. Asks the clock; once false it stays false. */
  holds(): boolean;
  /** Ends it and lets go of the lock, so that a standby needn't wait. May be called twice. */
  release(): Promise<void>;
}

/** One per process. `lead` again after a term was released. */
export class Election {
  /** What became of it so far. */
  readonly tally: ElectionTally;
  readonly #options: ElectionOptions;
  readonly #periodMs: number;
  #state: ElectionState;
  #term: AbortController | undefined;
  #complaint: string | undefined;

  constructor(options: ElectionOptions) {
    this.#options = options;
    const { lock, ttlMs, epochs, elapsed } = options;
    this.tally = new ElectionTally(elapsed);
    this.#periodMs = lock.expires ? ttlMs * (1 - MARGIN) : Number.POSITIVE_INFINITY;
    this.#state = firstState(epochs.highest);
  }

  /** What this replica believes, at this moment. */
  get state(): ElectionState {
    if (this.#state.kind === 'leading') this.#hear({ kind: 'time', nowMs: this.#options.elapsed() });
    return this.#state;
  }

  /**
   * Resolves once no later term of this replica can have this epoch or a lower one, also after a restart. Throws `limit` or
   * `unavailable` if that can't be made durable; it counts nevertheless as long as the process lives. Not during a term.
   */
  async raise(floor: bigint): Promise<void> {
    this.#hear({ kind: 'taken', holder: undefined, epoch: floor });
    await this.#keepEpoch(floor);
  }

  /** Why the lock can't be asked, if it can't. */
  get complaint(): string | undefined {
    return this.#complaint;
  }

  /** Resolves once this replica leads; rejects with the signal's reason. */
  async lead(signal: AbortSignal): Promise<Term> {
    const { clock, retryMs } = this.#options;
    for (;;) {
      signal.throwIfAborted();
      const term = await this.#tryOnce(signal);
      if (term !== undefined) return term;
      // Replicas that were started together do not ask together.
      await clock.sleep(retryMs * (0.5 + Math.random() / 2), signal);
    }
  }

  async #tryOnce(signal: AbortSignal): Promise<Term | undefined> {
    const { lock, elapsed, renewMs, log } = this.#options;
    const askedAtMs = elapsed();
    let answer: LockAnswer;
    try {
      answer = await this.#within(renewMs, signal, (stop) => lock.acquire(this.#state.highest, stop));
    } catch (error) {
      signal.throwIfAborted();
      this.#complain(error);
      return undefined;
    }
    if ((answer.epoch ?? 0n) > MAX_EPOCH) {
      // Nobody could lead with a later one, ever again: it is neither led with nor remembered.
      const text = `${lock.name} says that epoch ${answer.epoch} was, and none above ${MAX_EPOCH} can be led with; remove it, and replicas go on from what they know`;
      this.#complain(new LonglineError('wrong_state', text));
      if (answer.kind === 'acquired') await this.#letGo(answer.epoch);
      return undefined;
    }
    if (answer.kind === 'taken') {
      const { holder, epoch } = answer;
      const known = this.#state.kind === 'standby' ? this.#state.leader : undefined;
      if (holder !== undefined && holder !== known)
        log.info('another replica leads', { leader: holder, epoch: String(epoch) });
      this.#hear({ kind: 'taken', holder, epoch });
      // Content only once the epoch is durable too: else each try would say that all is well, and then that it isn't.
      await this.#keepEpoch(epoch ?? 0n, signal).then(
        () => this.#content(),
        (error: unknown) => this.#complain(error),
      );
      return undefined;
    }
    const { epoch } = answer;
    try {
      await this.#keepEpoch(epoch, signal);
      if (signal.aborted) throw signal.reason;
    } catch (error) {
      if (!signal.aborted) this.#complain(error);
      await this.#letGo(epoch);
      signal.throwIfAborted();
      return undefined;
    }
    this.#content();
    this.#hear({ kind: 'acquired', epoch, askedAtMs, nowMs: elapsed() });
    if (this.#state.kind === 'leading') return this.#begin(epoch);
    log.warn('the lock came too late, or with an epoch that is over', { lock: lock.name, epoch: String(epoch) });
    await this.#letGo(epoch);
    return undefined;
  }

  #begin(epoch: bigint): Term {
    const { log, lock } = this.#options;
    const over = new AbortController();
    this.#term = over;
    this.tally.began();
    log.info('this replica leads', { epoch: String(epoch), lock: lock.name });
    const keeping = this.#keep(epoch, over.signal);
    let released: Promise<void> | undefined;
    return {
      epoch,
      signal: over.signal,
      holds: () => this.state.kind === 'leading' && this.#term === over,
      release: () => {
        released ??= this.#release(epoch, over, keeping);
        return released;
      },
    };
  }

  async #release(epoch: bigint, over: AbortController, keeping: Promise<void>): Promise<void> {
    const held = this.state.kind === 'leading' && !over.signal.aborted;
    this.#hear({ kind: 'lost' }, 'released');
    await keeping;
    if (held) await this.#letGo(epoch);
  }

  /** Renews until the term is over. */
  async #keep(epoch: bigint, over: AbortSignal): Promise<void> {
    const { lock, clock, elapsed, renewMs } = this.#options;
    let waitMs = renewMs;
    while (!over.aborted) {
      await clock.sleep(Math.min(waitMs, this.#leftMs()), over).catch(() => undefined);
      if (over.aborted || this.state.kind !== 'leading') return;
      const askedAtMs = elapsed();
      try {
        const limitMs = Math.min(renewMs, this.#leftMs());
        const still = await this.#within(limitMs, over, (stop) => lock.renew(epoch, stop));
        this.#content();
        this.#hear(still ? { kind: 'renewed', epoch, askedAtMs, nowMs: elapsed() } : { kind: 'lost' });
        waitMs = renewMs;
      } catch (error) {
        if (over.aborted) return;
        this.#complain(error);
        waitMs = renewMs * EAGERNESS;
      }
    }
  }

  async #keepEpoch(epoch: bigint, signal?: AbortSignal): Promise<void> {
    const { epochs } = this.#options;
    if (epoch > epochs.highest) await this.#within(KEEP_LIMIT_MS, signal, () => epochs.keep(epoch), 'the data folder');
  }

  #leftMs(): number {
    const { state } = this;
    return state.kind === 'leading' ? Math.max(0, state.untilMs - this.#options.elapsed()) : 0;
  }

  async #letGo(epoch: bigint): Promise<void> {
    const { lock, log } = this.#options;
    try {
      await this.#within(RELEASE_LIMIT_MS, undefined, (stop) => lock.release(epoch, stop));
    } catch (error) {
      log.warn('the lock could not be let go of; it lapses by itself', { lock: lock.name, err: describeError(error) });
    }
  }

  /** `end` is why, if it ends a term. */
  #hear(event: ElectionEvent, end: TermEnd = endOf(event)): void {
    const before = this.#state;
    this.#state = nextState(before, event, this.#periodMs);
    if (event.kind !== 'time') this.#options.onHeard?.();
    if (before.kind !== 'leading' || this.#state.kind === 'leading') return;
    const term = this.#term;
    this.#term = undefined;
    this.tally.over(end);
    const why = new LonglineError('stale', `this replica no longer leads: epoch ${before.epoch} is over`);
    this.#options.log.info('this replica no longer leads', { epoch: String(before.epoch), because: end });
    term?.abort(why);
  }

  async #within<T>(
    limitMs: number,
    signal: AbortSignal | undefined,
    ask: (stop: AbortSignal) => Promise<T>,
    who = this.#options.lock.name,
  ): Promise<T> {
    const { clock } = this.#options;
    const stop = new AbortController();
    const timer = new AbortController();
    const onAbort = () => stop.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    const late = new LonglineError('late', `${who} gave no answer within ${Math.round(limitMs)} ms`);
    clock.sleep(limitMs, timer.signal).then(
      () => stop.abort(late),
      () => undefined,
    );
    const stopped = new Promise<never>((_, reject) => {
      stop.signal.addEventListener('abort', () => reject(stop.signal.reason), { once: true });
    });
    try {
      return await Promise.race([ask(stop.signal), stopped]);
    } finally {
      timer.abort();
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Says once what keeps going wrong. */
  #complain(error: unknown): void {
    this.tally.failed(error);
    const { message } = error as Error;
    if (message === this.#complaint) return;
    this.#complaint = message;
    this.#options.log.warn('the election goes on as soon as its lock can be asked', { err: describeError(error) });
  }

  #content(): void {
    this.tally.answered();
    if (this.#complaint !== undefined) this.#options.log.info('the lock of the election can be asked again');
    this.#complaint = undefined;
  }
}

/** Why a term ends that does so at this event, unless it is let go of. */
function endOf(event: ElectionEvent): TermEnd {
  return 'nowMs' in event ? 'lapsed' : 'taken';
}

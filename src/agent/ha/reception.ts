// What a leader makes of how the controller receives it. A refusal may mean that another replica would do better, or that this
// one has to be elected anew, with a higher epoch; then it gives up the lead. Whatever a controller says, replicas don't pass the
// lead around for it: only the first refusal is answered at once, further ones more and more rarely, until one is welcomed and a
// while has passed. A welcome alone forgets nothing: who welcomes and refuses in turn would have a new leader, and epochs raised, each second.
import { LonglineError } from '../../core/errors.ts';
import { MAX_EPOCH } from '../../core/leader-lock.ts';

/** Why a leader gives up its term. */
export interface Resignation {
  readonly why: LonglineError;
  /** Epochs up to this one are over; undefined if nothing is known of that. */
  readonly floor: bigint | undefined;
  /** How long it leaves the lead to others. */
  readonly pauseMs: number;
}

/**
 * Most that one refusal raises epochs by: more than an election a second makes in a hundred years, so that what is true is reached
 * in one step; and so little that who names absurd ones needs a million refusals to use them up.
 */
const MAX_LEAP = 2n ** 32n;
/** A renewed certificate and the one before are tried in turn: only when both were refused it is known that neither is good. */
const CREDENTIALS = 2;
/** Several times what a standby waits between two tries. */
const HAND_OVER_MS = 5_000;
const FIRST_PATIENCE_MS = 10_000;
const MOST_PATIENCE_MS = 10 * 60_000;

/** One per replica, over all its terms. Times are of one clock. */
export class Reception {
  /** How long refusals are borne before the lead is given up. */
  #patienceMs = 0;
  #refusedSinceMs: number | undefined;
  #strangers = 0;
  #givenUpAtMs: number | undefined;
  #welcome = false;

  /** A term begins. */
  began(): void {
    this.#refusedSinceMs = undefined;
    this.#strangers = 0;
  }

  /** The controller welcomed this replica. */
  welcomed(): void {
    this.began();
    this.#welcome = true;
  }

  /** The controller refused this replica, which leads in an epoch. What to do about it; undefined to try again. */
  refused(error: LonglineError, epoch: bigint, nowMs: number): Resignation | undefined {
    const floor = floorOf(error, epoch);
    if (floor === undefined && error.reason !== 'identity') return undefined;
    this.#refusedSinceMs ??= nowMs;
    if (floor === undefined) this.#strangers += 1;
    if (floor === undefined && this.#strangers < CREDENTIALS) return undefined;
    const isLongAgo = this.#givenUpAtMs === undefined || nowMs - this.#givenUpAtMs >= MOST_PATIENCE_MS;
    if (this.#welcome && isLongAgo) this.#patienceMs = 0;
    if (nowMs - this.#refusedSinceMs < this.#patienceMs) return undefined;
    this.#givenUpAtMs = nowMs;
    this.#welcome = false;
    this.#patienceMs = Math.min(MOST_PATIENCE_MS, Math.max(FIRST_PATIENCE_MS, 2 * this.#patienceMs));
    const why = new LonglineError('stale', `the lead is given up: ${error.message}`, { cause: error });
    return { why, floor, pauseMs: floor === undefined ? HAND_OVER_MS : 0 };
  }
}

/** The epoch that a controller knows of, as far as it is believed. */
function floorOf({ newestEpoch }: LonglineError, epoch: bigint): bigint | undefined {
  if (newestEpoch === undefined || newestEpoch < epoch || newestEpoch > MAX_EPOCH) return undefined;
  const most = epoch + MAX_LEAP;
  return newestEpoch < most ? newestEpoch : most;
}

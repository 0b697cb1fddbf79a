// What became of an election so far, counted as it happens: terms that were won and how they ended, and how often the lock could not
// be asked. It decides nothing; who asks it wants figures.
import { GRPC_CODE, type Reason, toLonglineError } from '../../core/errors.ts';

/** How a term ends: this replica let go of it, could not renew it in time, or the lock was another's or gone. */
export const TERM_ENDS = ['released', 'lapsed', 'taken'] as const;

/** Why a term ended. */
export type TermEnd = (typeof TERM_ENDS)[number];

/** One per election. Times are of the clock that it is given, in milliseconds. */
export class ElectionTally {
  readonly #elapsed: () => number;
  #won = 0;
  #answeredMs: number | undefined;
  #failingSinceMs: number | undefined;
  #roleSinceMs: number;
  /** All from the start, so that the first one shows as a rise. */
  readonly ended = new Map<TermEnd, number>(TERM_ENDS.map((end) => [end, 0]));
  readonly errors = new Map<Reason, number>((Object.keys(GRPC_CODE) as Reason[]).map((reason) => [reason, 0]));

  constructor(elapsed: () => number) {
    this.#elapsed = elapsed;
    this.#roleSinceMs = elapsed();
  }

  /** Terms of this replica. */
  get won(): number {
    return this.#won;
  }

  /** How long it has been leader or standby, as it is now. */
  get roleMs(): number {
    return this.#elapsed() - this.#roleSinceMs;
  }

  /** How long ago the lock was asked and answered last; undefined if it never did. */
  get answeredAgoMs(): number | undefined {
    return this.#answeredMs === undefined ? undefined : this.#elapsed() - this.#answeredMs;
  }

  /** For how long the lock can't be asked; undefined if it can. */
  get failingMs(): number | undefined {
    return this.#failingSinceMs === undefined ? undefined : this.#elapsed() - this.#failingSinceMs;
  }

  began(): void {
    this.#won += 1;
    this.#roleSinceMs = this.#elapsed();
  }

  over(end: TermEnd): void {
    this.ended.set(end, (this.ended.get(end) ?? 0) + 1);
    this.#roleSinceMs = this.#elapsed();
  }

  answered(): void {
    this.#answeredMs = this.#elapsed();
    this.#failingSinceMs = undefined;
  }

  failed(error: unknown): void {
    const { reason } = toLonglineError(error);
    this.errors.set(reason, (this.errors.get(reason) ?? 0) + 1);
    this.#failingSinceMs ??= this.#elapsed();
  }
}

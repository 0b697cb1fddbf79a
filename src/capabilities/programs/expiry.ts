// When the time of one program is over, as a time of day for people: it doesn't move as long as no clock is set and nothing else is asked
// for, so that the same is not told again and again.
import { type Lifetime, leftMs, type Moment } from './lifetime.ts';

const STILL_THE_SAME_MS = 2_000;

/** One per program. */
export class Expiry {
  #atMs: number | undefined;

  /** Milliseconds since the epoch; undefined for never. */
  get atMs(): number | undefined {
    return this.#atMs;
  }

  /** Looks at the clocks. */
  note(lifetime: Lifetime | undefined, ttlMs: number, now: Moment): void {
    const atMs = lifetime === undefined ? Number.POSITIVE_INFINITY : now.wallMs + leftMs(lifetime, ttlMs, now);
    if (!Number.isFinite(atMs)) this.#atMs = undefined;
    else if (this.#atMs === undefined || Math.abs(atMs - this.#atMs) > STILL_THE_SAME_MS) this.#atMs = atMs;
  }
}

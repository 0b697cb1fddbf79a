// Token bucket: lets work in at a steady rate with room for a burst, and tells the others when to come back.
import type { Clock } from '../../core/clock.ts';

/** How much is let in. */
export interface AdmissionLimits {
  /** In the long run, per second. */
  readonly perSecond: number;
  /** At once, after a quiet time. */
  readonly burst: number;
}

/** Decides whether there is room for one more. Not shared between processes. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #clock: Clock;
  #tokens: number;
  #filledAtMs: number;

  constructor(limits: AdmissionLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
    this.#tokens = limits.burst;
    this.#filledAtMs = clock.monotonic();
  }

  /** Takes a place and gives 0, or takes none and gives the milliseconds until there will be one. */
  tryEnter(): number {
    const waitMs = this.waitMs();
    if (waitMs === 0) this.#tokens -= 1;
    return waitMs;
  }

  /** Milliseconds until there is a place; 0 if there is one now. Takes none. */
  waitMs(): number {
    const nowMs = this.#clock.monotonic();
    const { perSecond, burst } = this.#limits;
    this.#tokens = Math.min(burst, this.#tokens + ((nowMs - this.#filledAtMs) / 1000) * perSecond);
    this.#filledAtMs = nowMs;
    // Sums of fractions fall short of a whole by a hair: who waited as told must get in.
    return this.#tokens >= 1 - 1e-9 ? 0 : Math.ceil(((1 - this.#tokens) / perSecond) * 1000);
  }
}

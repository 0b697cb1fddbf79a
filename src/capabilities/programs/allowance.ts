// So many a second, of which at most a second's worth is saved up.
import type { Clock } from '../../core/clock.ts';

/** A rate that may not be exceeded for long. */
export class Allowance {
  readonly #perSecond: number;
  readonly #clock: Clock;
  #left: number;
  #filledAtMs: number;

  constructor(perSecond: number, clock: Clock) {
    this.#perSecond = perSecond;
    this.#clock = clock;
    this.#left = perSecond;
    this.#filledAtMs = clock.monotonic();
  }

  /** True if one more may be had now. Takes nothing. */
  get some(): boolean {
    const nowMs = this.#clock.monotonic();
    const earned = ((nowMs - this.#filledAtMs) / 1000) * this.#perSecond;
    this.#left = Math.min(this.#perSecond, this.#left + earned);
    this.#filledAtMs = nowMs;
    return this.#left >= 1;
  }

  /** Takes one. Ask for `some` before. */
  take(): void {
    this.#left -= 1;
  }
}

// How fast agents may attach: after a controller restart all come at once, and each costs a handshake and a transaction.
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';

/** Rate of a token bucket. */
export interface AdmissionOptions {
  readonly perSecond: number;
  readonly burst: number;
}

/** Token bucket. Refusals say when to come again, spread so that those refused don't come together. */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #clock: Clock;
  #tokens: number;
  #filledAtMs: number;

  constructor(options: AdmissionOptions, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
    this.#tokens = options.burst;
    this.#filledAtMs = clock.monotonic();
  }

  /** Takes a place or throws `limit` with the time to wait. */
  take(): void {
    const { perSecond, burst } = this.#options;
    const nowMs = this.#clock.monotonic();
    this.#tokens = Math.min(burst, this.#tokens + ((nowMs - this.#filledAtMs) / 1000) * perSecond);
    this.#filledAtMs = nowMs;
    if (this.#tokens < 1) {
      const retryAfterMs = Math.ceil(((1 - this.#tokens) / perSecond) * 1000 + Math.random() * 1000);
      throw new LonglineError('limit', `more than ${perSecond} agents a second attach; come again later`, {
        retryAfterMs,
      });
    }
    this.#tokens -= 1;
  }
}

// How long the engine has been away from one job. Losses that are far apart have nothing to do with each other; an engine
// that answers a question in between but breaks off everything else is given up in the same time.
import { Backoff } from '../../core/backoff.ts';
import type { Clock } from '../../core/clock.ts';

const RECONNECT = { baseMs: 100, capMs: 5000 };
const LEAST_DELAY_MS = 50;
const NEW_LOSS_MS = 60_000;

/** Losses of one job. */
export class EngineLoss {
  readonly #clock: Clock;
  readonly #limitMs: number;
  #since = Number.NEGATIVE_INFINITY;
  #last = Number.NEGATIVE_INFINITY;
  #backoff = new Backoff(RECONNECT);
  #seen = false;

  /** @param limitMs after which the engine is given up. */
  constructor(clock: Clock, limitMs: number) {
    this.#clock = clock;
    this.#limitMs = limitMs;
  }

  /** True if the engine was ever lost. */
  get seen(): boolean {
    return this.#seen;
  }

  /** The engine went away, perhaps again. */
  begin(): void {
    this.#seen = true;
    const nowMs = this.#clock.monotonic();
    if (nowMs - this.#last <= NEW_LOSS_MS) return;
    this.#since = nowMs;
    this.#backoff = new Backoff(RECONNECT);
  }

  /** Waits before the next question to the engine; false if it was away for too long. */
  async pause(signal: AbortSignal): Promise<boolean> {
    this.#last = this.#clock.monotonic();
    if (this.#last - this.#since > this.#limitMs) return false;
    await this.#clock.sleep(this.#backoff.next(LEAST_DELAY_MS), signal);
    return true;
  }
}

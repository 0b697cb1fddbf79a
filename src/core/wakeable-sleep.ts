// A wait that ends early: until time is up, somebody wakes it, or its signal aborts, whichever is first. Never throws.
import type { Clock } from './clock.ts';

/** One waiter at a time. A ring while nobody waits ends the next wait at once. */
export class WakeableSleep {
  readonly #clock: Clock;
  #rung = false;
  #wake: AbortController | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  ring(): void {
    this.#rung = true;
    this.#wake?.abort();
  }

  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#rung && !signal.aborted && ms > 0) {
      const wake = new AbortController();
      this.#wake = wake;
      const stop = () => wake.abort();
      signal.addEventListener('abort', stop, { once: true });
      await this.#clock.sleep(ms, wake.signal).catch(() => undefined);
      signal.removeEventListener('abort', stop);
      this.#wake = undefined;
    }
    this.#rung = false;
  }
}

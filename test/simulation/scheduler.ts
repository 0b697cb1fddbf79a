// Virtual time: everything that takes time in a simulation is an event here, and the seed decides how long it takes. One
// event at a time, in order of time, so that a seed gives the same run every time.
import type { Clock } from '../../src/core/clock.ts';

/** One incarnation of a process. What a dead one waits for never comes. */
export class Life {
  alive = true;
}

interface Entry {
  readonly atMs: number;
  readonly order: number;
  readonly life: Life;
  readonly run: () => void;
}

/** Any time will do. */
export const EPOCH_MS = 1_800_000_000_000;

/** Events of one simulation. */
export class Scheduler {
  readonly #entries: Entry[] = [];
  readonly #random: () => number;
  #order = 0;
  nowMs = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** A number from `from` to `to`. */
  between(from: number, to: number): number {
    return from + this.#random() * (to - from);
  }

  chance(probability: number): boolean {
    return this.#random() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.#random() * items.length)]!;
  }

  /** Runs something later, unless the process it belongs to is dead by then. */
  after(delayMs: number, life: Life, run: () => void): void {
    const entry: Entry = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, life, run };
    let low = 0;
    let high = this.#entries.length;
    // Latest first, so that the next one is taken off the end.
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#entries[middle]!.atMs > entry.atMs) low = middle + 1;
      else high = middle;
    }
    this.#entries.splice(low, 0, entry);
  }

  /** Moves to the next event and runs it; false if there is none. */
  step(): boolean {
    for (let entry = this.#entries.pop(); entry !== undefined; entry = this.#entries.pop()) {
      if (!entry.life.alive) continue;
      this.nowMs = entry.atMs;
      entry.run();
      return true;
    }
    return false;
  }
}

/** The clock of one process. */
export class VirtualClock implements Clock {
  readonly #scheduler: Scheduler;
  readonly #life: Life;
  readonly #skewMs: number;

  constructor(scheduler: Scheduler, life: Life, skewMs = 0) {
    this.#scheduler = scheduler;
    this.#life = life;
    this.#skewMs = skewMs;
  }

  now(): number {
    return Math.floor(EPOCH_MS + this.#scheduler.nowMs + this.#skewMs);
  }

  monotonic(): number {
    return this.#scheduler.nowMs;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#scheduler.after(ms, this.#life, resolve);
    await promise.finally(() => signal?.removeEventListener('abort', onAbort));
  }
}

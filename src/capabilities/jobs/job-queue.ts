// Places for jobs: so many at once, the rest first come first served, the line itself bounded.
import { LonglineError } from '../../core/errors.ts';

/** A taken place. Give it back once; a second release does nothing. */
export interface Place extends Disposable {
  release(): void;
}

interface Waiter {
  readonly admit: (place: Place) => void;
  readonly moved: (position: number) => void;
  position: number;
}

/** Concurrency limit with a visible line. */
export class JobQueue {
  readonly #maxRunning: number;
  readonly #maxWaiting: number;
  readonly #waiting: Waiter[] = [];
  #running = 0;
  #started = 0;

  constructor(maxRunning: number, maxWaiting: number) {
    this.#maxRunning = maxRunning;
    this.#maxWaiting = maxWaiting;
  }

  get running(): number {
    return this.#running;
  }

  /** Places that were given since the start. */
  get started(): number {
    return this.#started;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** A place at once if one is free and nobody waits; else undefined. */
  tryTake(): Place | undefined {
    return this.#running < this.#maxRunning && this.#waiting.length === 0 ? this.takeAnyway() : undefined;
  }

  /** A place beyond the limit, for what runs already. */
  takeAnyway(): Place {
    this.#running += 1;
    this.#started += 1;
    let held = true;
    const release = () => {
      if (!held) return;
      held = false;
      this.#running -= 1;
      this.#advance();
    };
    return { release, [Symbol.dispose]: release };
  }

  /**
   * Waits for a place. `moved` hears the position, 1 for next, at first and whenever it changes. Rejects with `limit` if
   * the line is full, unless `known` (it was accepted before), and with the signal's reason if it aborts.
   */
  async take(moved: (position: number) => void, signal: AbortSignal, known = false): Promise<Place> {
    signal.throwIfAborted();
    const free = this.tryTake();
    if (free !== undefined) return free;
    if (!known && this.#waiting.length >= this.#maxWaiting) {
      const message = `${this.#running} jobs run and ${this.#waiting.length} wait, which is the most that may wait on this host`;
      throw new LonglineError('limit', message);
    }
    const { promise, resolve, reject } = Promise.withResolvers<Place>();
    const waiter: Waiter = { admit: resolve, moved, position: this.#waiting.length + 1 };
    const leave = () => {
      const index = this.#waiting.indexOf(waiter);
      if (index < 0) return;
      this.#waiting.splice(index, 1);
      reject(signal.reason);
      this.#renumber();
    };
    this.#waiting.push(waiter);
    moved(waiter.position);
    signal.addEventListener('abort', leave, { once: true });
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  #advance(): void {
    while (this.#running < this.#maxRunning && this.#waiting.length > 0)
      this.#waiting.shift()!.admit(this.takeAnyway());
    this.#renumber();
  }

  #renumber(): void {
    for (const [index, waiter] of this.#waiting.entries()) {
      if (waiter.position === index + 1) continue;
      waiter.position = index + 1;
      waiter.moved(waiter.position);
    }
  }
}

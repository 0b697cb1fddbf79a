// Whether a task that never ends still gets on: it says by when it will be heard of again, and somebody else looks whether it was.
import type { Clock } from './clock.ts';

/** What a task is overdue with. */
export interface Overdue {
  /** "link: a heartbeat". */
  readonly what: string;
  /** By how much. */
  readonly byMs: number;
  /** Which step it is: another number is another step, so the task has moved since. */
  readonly step: number;
}

/** One per task. Nothing is due at first. */
export class Progress {
  readonly #task: string;
  readonly #clock: Pick<Clock, 'monotonic'>;
  #dueMs = Number.POSITIVE_INFINITY;
  #what = '';
  #step = 0;

  constructor(task: string, clock: Pick<Clock, 'monotonic'>) {
    this.#task = task;
    this.#clock = clock;
  }

  /** The task got on; what it does now is over within this time. */
  expect(withinMs: number, what: string): void {
    this.#step += 1;
    this.#dueMs = this.#clock.monotonic() + withinMs;
    this.#what = what;
  }

  /** The task waits for something that may never come, or has ended. */
  rest(): void {
    this.#step += 1;
    this.#dueMs = Number.POSITIVE_INFINITY;
  }

  /** Undefined as long as it isn't late. */
  overdue(): Overdue | undefined {
    const byMs = this.#clock.monotonic() - this.#dueMs;
    return byMs > 0 ? { what: `${this.#task}: ${this.#what}`, byMs, step: this.#step } : undefined;
  }
}

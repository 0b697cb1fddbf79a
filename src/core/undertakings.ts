// Things that one task does side by side, each with a time within which it is over: what a watchdog looks at.
import type { Clock } from './clock.ts';
import { Progress } from './progress.ts';

/** One per task. */
export class Undertakings {
  readonly #task: string;
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #underWay = new Set<Progress>();

  constructor(task: string, clock: Pick<Clock, 'monotonic'>) {
    this.#task = task;
    this.#clock = clock;
  }

  /** Of each that is under way. */
  get progress(): readonly Progress[] {
    return [...this.#underWay];
  }

  /** Gives what `work` gives, which is stuck if it takes longer than this. */
  async run<T>(what: string, withinMs: number, work: () => Promise<T>): Promise<T> {
    const progress = new Progress(this.#task, this.#clock);
    progress.expect(withinMs, what);
    this.#underWay.add(progress);
    try {
      return await work();
    } finally {
      this.#underWay.delete(progress);
    }
  }
}

// What is there of all programs, asked of the kernel once for all that want to know at about the same time.
import type { Clock } from '../../core/clock.ts';
import type { FoundProgram, Kernel } from './ports.ts';

/** What was found longer ago than this is not what is there. */
const GOOD_FOR_MS = 500;

/** One per capability. */
export class Listing {
  readonly #kernel: Pick<Kernel, 'list'>;
  readonly #clock: Clock;
  #last: { readonly atMs: number; readonly programs: Promise<ReadonlyMap<string, FoundProgram>> } | undefined;

  constructor(kernel: Pick<Kernel, 'list'>, clock: Clock) {
    this.#kernel = kernel;
    this.#clock = clock;
  }

  /** What is there of a program; undefined for nothing. Never from before the last call of `changing`. Throws what the kernel throws. */
  async look(program: string): Promise<FoundProgram | undefined> {
    const nowMs = this.#clock.monotonic();
    if (this.#last === undefined || nowMs - this.#last.atMs >= GOOD_FOR_MS) {
      // Without anybody's signal: others may wait for it too, and the kernel's side limits how long it takes.
      const programs = this.#kernel.list().then((all) => new Map(all.map((one) => [one.program, one])));
      const mine = { atMs: nowMs, programs };
      this.#last = mine;
      programs.catch(() => {
        if (this.#last === mine) this.#last = undefined;
      });
    }
    return (await this.#last.programs).get(program);
  }

  /** Something is about to be changed, or was. */
  changing(): void {
    this.#last = undefined;
  }
}

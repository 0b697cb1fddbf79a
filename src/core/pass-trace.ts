// The trace of something that is kept as it is wanted, by a loop: the pass after a change is a span below what asked for the change;
// the passes after it are about no change, and are in no trace.
import { ATTRIBUTE, SPAN } from './span-names.ts';
import { type Tracer, traced } from './tracer.ts';

/** One per kept thing. */
export class PassTrace {
  readonly #tracer: Tracer;
  readonly #item: string;
  #parent = '';

  /** @param item name of what is kept, for whoever reads the trace. */
  constructor(tracer: Tracer, item: string) {
    this.#tracer = tracer;
    this.#item = item;
  }

  /**
   * A change is asked for, in whatever span is current. The next pass is about it. `isChange` is asked where that costs something and
   * what is asked for may be what there is.
   */
  asked(isChange: () => boolean = () => true): void {
    const parent = this.#tracer.current();
    if (parent !== '' && isChange()) this.#parent = parent;
  }

  /** Begins the loop. It outlives what it is begun for, so that is not its trace. */
  begin<T>(loop: () => T): T {
    return this.#tracer.apart(loop);
  }

  /** Does a pass. `problem` says what it could not do, where it doesn't throw that. */
  async pass<T>(work: () => Promise<T>, problem: () => unknown): Promise<T> {
    const parent = this.#parent;
    if (parent === '') return await work();
    this.#parent = '';
    const options = { parent, attributes: { [ATTRIBUTE.item]: this.#item } };
    return await traced(this.#tracer, SPAN.apply, options, async (span) => {
      const result = await work();
      const met = problem();
      if (met !== undefined) span.fail(met);
      return result;
    });
  }
}

// Tells what became of the state that a controller wants: once for each generation when it has been passed over, and again whenever it
// reads otherwise. Whoever tells leaves out figures that change by themselves; they go as telemetry.
import type { StateItemError, StateObserver, StateRef } from './desired-state.ts';

/** One per capability that keeps a state. */
export class StateTeller {
  /** Who is told. */
  observer: StateObserver | undefined;
  /** Generation that a pass over everything is over for. */
  settled: bigint | undefined;
  #told = '';

  /** Tells it unless it was told, or the first pass isn't over. `detailOf` gives the serialised detail of the kind. */
  tell({ digest, generation }: StateRef, items: readonly StateItemError[], detailOf: () => Uint8Array): void {
    if (this.observer === undefined || this.settled !== generation) return;
    const detail = detailOf();
    const text = JSON.stringify([
      String(generation),
      Buffer.from(digest).toString('hex'),
      items.map(({ item, error }) => [item, error.message]),
      Buffer.from(detail).toString('base64'),
    ]);
    if (text === this.#told) return;
    this.#told = text;
    this.observer({ generation, digest, items, detail });
  }
}

// Tells what became of the state that a controller wants: once for each generation when it has been passed over, and again whenever it
// reads otherwise. Figures that change by themselves are left out; they go as telemetry.
import type { StateObserver } from '../../core/desired-state.ts';
import type { Held } from './desired.ts';
import type { RefusedItem } from './order.ts';
import type { NetworkView } from './status.ts';
import { encodeStateDetail, statusMessage } from './wire.ts';

/** One per capability. */
export class StateTeller {
  /** Who is told. */
  observer: StateObserver | undefined;
  /** Generation that a pass over all networks is over for. */
  settled: bigint | undefined;
  #told = '';

  /** Tells it unless it was told, or the first pass isn't over. */
  tell(held: Held, items: readonly RefusedItem[], views: readonly NetworkView[], nowMs: number): void {
    const { digest, generation } = held;
    if (this.observer === undefined || this.settled !== generation) return;
    const detail = encodeStateDetail(views.map((view) => statusMessage(withoutFigures(view), nowMs, false)));
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

function withoutFigures(view: NetworkView): NetworkView {
  const counts = { active: 0, idle: 0, suspect: 0, stale: 0 };
  return { ...view, counts, receivedBytes: 0, sentBytes: 0, reconciledAtMs: undefined };
}

// One timer for all streams: each stream is looked at once a period, spread evenly over it.
import type { Clock } from '../../core/clock.ts';

/** What is looked at. */
export interface Beating {
  /** Called about once a period. Must not throw. */
  beat(nowMs: number): void;
}

/** Slots that are visited in turn. */
export class BeatWheel<T extends Beating> {
  readonly #slots: readonly Set<T>[];
  readonly #slotOf = new Map<T, Set<T>>();
  readonly #tickMs: number;
  readonly #clock: Clock;
  #nextSlot = 0;

  /** Visits everything once in `periodMs`, in `slots` ticks. */
  constructor(periodMs: number, slots: number, clock: Clock) {
    this.#slots = Array.from({ length: slots }, () => new Set<T>());
    this.#tickMs = Math.max(1, periodMs / slots);
    this.#clock = clock;
  }

  add(item: T): void {
    const slot = this.#slots[this.#nextSlot]!;
    this.#nextSlot = (this.#nextSlot + 1) % this.#slots.length;
    slot.add(item);
    this.#slotOf.set(item, slot);
  }

  remove(item: T): void {
    this.#slotOf.get(item)?.delete(item);
    this.#slotOf.delete(item);
  }

  get size(): number {
    return this.#slotOf.size;
  }

  items(): IterableIterator<T> {
    return this.#slotOf.keys();
  }

  /** Turns until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    for (let at = 0; !signal.aborted; at = (at + 1) % this.#slots.length) {
      await this.#clock.sleep(this.#tickMs, signal).catch(() => undefined);
      if (signal.aborted) return;
      for (const item of this.#slots[at]!) item.beat(this.#clock.monotonic());
    }
  }
}

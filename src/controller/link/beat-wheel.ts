// One timer for all streams: each stream is looked at once a period, spread evenly over it.
import type { Clock } from '../../core/clock.ts';
import { Progress } from '../../core/progress.ts';

/** By how much a tick may be late. */
const LATE_MS = 60_000;

/** What is looked at. */
export interface Beating {
  /** Called about once a period. Must not throw. */
  beat(nowMs: number): void;
}

/** Slots that are visited in turn. */
export class BeatWheel<T extends Beating> {
  /** Whether it turns. */
  readonly progress: Progress;
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
    this.progress = new Progress('heartbeats', clock);
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

  /** Turns until the signal aborts. A late timer is made up for, so that a period stays a period. */
  async run(signal: AbortSignal): Promise<void> {
    let slot = 0;
    let turnedMs = this.#clock.monotonic();
    while (!signal.aborted) {
      this.progress.expect(this.#tickMs + LATE_MS, 'the next tick');
      await this.#clock.sleep(this.#tickMs, signal).catch(() => undefined);
      if (signal.aborted) return this.progress.rest();
      const nowMs = this.#clock.monotonic();
      const lateTicks = Math.max(1, Math.floor((nowMs - turnedMs) / this.#tickMs));
      // After a standstill of this process what peers sent meanwhile isn't read yet: it must not be held against them.
      const ticks = lateTicks > this.#slots.length / 2 ? 1 : lateTicks;
      turnedMs = lateTicks === ticks ? turnedMs + ticks * this.#tickMs : nowMs;
      for (let tick = 0; tick < ticks; tick++) {
        for (const item of this.#slots[slot]!) item.beat(nowMs);
        slot = (slot + 1) % this.#slots.length;
      }
    }
  }
}

// Tells the world what happens to things of a capability, at a bounded rate: when a way to thousands of peers breaks, the first are
// named, and how many more there were is said once there is room.
import type { HostEvent } from './capability.ts';
import type { Clock } from './clock.ts';
import type { Logger } from './logger.ts';

const BURST = 20;
const REFILL_MS = 10_000;

/** One per capability. */
export class HostEvents {
  readonly #noun: string;
  readonly #emit: (event: HostEvent) => void;
  readonly #clock: Clock;
  readonly #log: Logger;
  #tokens = BURST;
  #filledAtMs: number;
  #suppressed = 0;

  /** @param noun first part of the types of events, and the attribute that names the thing: "network". */
  constructor(noun: string, emit: (event: HostEvent) => void, clock: Clock, log: Logger) {
    this.#noun = noun;
    this.#emit = emit;
    this.#log = log;
    this.#clock = clock;
    this.#filledAtMs = clock.monotonic();
  }

  /** Emits if there is room; else it is counted, and the next one says so. */
  tell(type: string, item: string, message: string, more: Readonly<Record<string, string>> = {}): void {
    this.#refill();
    if (this.#tokens < 1) {
      this.#suppressed += 1;
      return;
    }
    this.#tokens -= 1;
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    const attributes = { [this.#noun]: item, ...more, ...(suppressed > 0 && { suppressed: String(suppressed) }) };
    this.#log.info(message, { event: `${this.#noun}.${type}`, ...attributes });
    this.#emit({ type: `${this.#noun}.${type}`, message, attributes });
  }

  #refill(): void {
    const nowMs = this.#clock.monotonic();
    const earned = Math.floor((nowMs - this.#filledAtMs) / REFILL_MS);
    if (earned <= 0) return;
    this.#tokens = Math.min(BURST, this.#tokens + earned);
    this.#filledAtMs += earned * REFILL_MS;
  }
}

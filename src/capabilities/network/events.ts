// Tells the world what happens to networks, at a bounded rate: when a way to thousands of peers breaks, the first are named, and how
// many more there were is said once there is room.
import type { HostEvent } from '../../core/capability.ts';
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';

const BURST = 20;
const REFILL_MS = 10_000;

/** One per capability. */
export class NetworkEvents {
  readonly #emit: (event: HostEvent) => void;
  readonly #clock: Clock;
  readonly #log: Logger;
  #tokens = BURST;
  #filledAtMs: number;
  #suppressed = 0;

  constructor(emit: (event: HostEvent) => void, clock: Clock, log: Logger) {
    this.#emit = emit;
    this.#log = log;
    this.#clock = clock;
    this.#filledAtMs = clock.monotonic();
  }

  /** Emits if there is room; else it is counted, and the next one says so. */
  tell(type: string, network: string, message: string, more: Readonly<Record<string, string>> = {}): void {
    this.#refill();
    if (this.#tokens < 1) {
      this.#suppressed += 1;
      return;
    }
    this.#tokens -= 1;
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    const attributes = { network, ...more, ...(suppressed > 0 && { suppressed: String(suppressed) }) };
    this.#log.info(message, { event: `network.${type}`, ...attributes });
    this.#emit({ type: `network.${type}`, message, attributes });
  }

  #refill(): void {
    const nowMs = this.#clock.monotonic();
    const earned = Math.floor((nowMs - this.#filledAtMs) / REFILL_MS);
    if (earned <= 0) return;
    this.#tokens = Math.min(BURST, this.#tokens + earned);
    this.#filledAtMs += earned * REFILL_MS;
  }
}

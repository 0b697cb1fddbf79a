// Full-jitter exponential backoff, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

/** Bounds of a backoff, milliseconds. */
export interface BackoffLimits {
  readonly baseMs: number;
  readonly capMs: number;
}

/** Delays between tries: uniform in [0, min(cap, base × 2^n)), from the first retry on. */
export class Backoff {
  readonly #limits: BackoffLimits;
  readonly #random: () => number;
  #attempt = 0;

  constructor(limits: BackoffLimits, random: () => number = Math.random) {
    this.#limits = limits;
    this.#random = random;
  }

  /** Tries since the last reset. */
  get attempt(): number {
    return this.#attempt;
  }

  /** Milliseconds to wait before the next try; at least `floorMs`, which a peer may have asked for. */
  next(floorMs = 0): number {
    const ceiling = Math.min(this.#limits.capMs, this.#limits.baseMs * 2 ** Math.min(this.#attempt, 30));
    this.#attempt += 1;
    return floorMs + this.#random() * ceiling;
  }

  /** Call after a completed handshake, not after a mere connect. */
  reset(): void {
    this.#attempt = 0;
  }
}

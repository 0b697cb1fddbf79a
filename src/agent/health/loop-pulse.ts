// How late the event loop is: a timer that sees by how much it was late, and remembers a minute of it.

const EVERY_MS = 1_000;
const REMEMBERED = 60;

/** One per process. Dispose to stop. */
export class LoopPulse implements Disposable {
  readonly #monotonic: () => number;
  readonly #timer: NodeJS.Timeout;
  readonly #lateMs: number[] = [];
  #dueMs: number;

  /** Begins at once. */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
    this.#dueMs = monotonic() + EVERY_MS;
    this.#timer = setInterval(() => this.#beat(), EVERY_MS);
    this.#timer.unref();
  }

  /** Longest time that the loop stood still, and all of it, in the last minute of beats; milliseconds. */
  late(): { readonly worstMs: number; readonly totalMs: number } {
    // What holds it up since the last beat counts too.
    const lateMs = [...this.#lateMs, Math.max(0, this.#monotonic() - this.#dueMs)];
    return { worstMs: Math.max(...lateMs), totalMs: lateMs.reduce((sum, one) => sum + one, 0) };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #beat(): void {
    const nowMs = this.#monotonic();
    this.#lateMs.push(Math.max(0, nowMs - this.#dueMs));
    if (this.#lateMs.length > REMEMBERED) this.#lateMs.shift();
    this.#dueMs = nowMs + EVERY_MS;
  }
}

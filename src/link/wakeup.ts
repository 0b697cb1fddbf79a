// A doorbell between producers and one consumer: rings that come while nobody waits are remembered once.

/** One waiter at a time. */
export class Wakeup {
  #rung = false;
  #resolve: (() => void) | undefined;

  /** Lets the waiter go on, or the next one pass at once. */
  ring(): void {
    this.#rung = true;
    this.#resolve?.();
  }

  /** Resolves at the next ring, at once if it rang since the last wait, or when the signal aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    if (!this.#rung && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#resolve = resolve;
      signal.addEventListener('abort', resolve as () => void, { once: true });
      await promise;
      signal.removeEventListener('abort', resolve as () => void);
      this.#resolve = undefined;
    }
    this.#rung = false;
  }
}

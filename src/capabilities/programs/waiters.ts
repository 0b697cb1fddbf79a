// Who waits for a loop to have passed over what they asked for.

/** Waiters of one loop. */
export class Waiters {
  #asked = 0;
  #waiting: { readonly asked: number; readonly resolve: () => void }[] = [];

  /** How often something was asked for. */
  get asked(): number {
    return this.#asked;
  }

  /** Asks; resolves once it is answered. */
  async ask(): Promise<void> {
    this.#asked += 1;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ asked: this.#asked, resolve });
    await promise;
  }

  /** Answers all that were asked up to there. */
  answer(asked: number): void {
    const answered = this.#waiting.filter((waiter) => waiter.asked <= asked);
    this.#waiting = this.#waiting.filter((waiter) => waiter.asked > asked);
    for (const { resolve } of answered) resolve();
  }
}

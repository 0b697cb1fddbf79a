// A bounded queue between one or more writers and one reader: the only way bytes and events are buffered in memory.

/** Writers wait while it is full; the reader iterates. Closing lets the reader drain; failing drops what is queued. */
export class Channel<T> implements AsyncIterable<T> {
  readonly #capacity: number;
  readonly #items: T[] = [];
  #closed = false;
  #failure: { readonly error: unknown } | undefined;
  #wakeReader: (() => void) | undefined;
  readonly #waitingWriters: (() => void)[] = [];

  /** @param capacity most items queued at once; at least 1. */
  constructor(capacity: number) {
    if (!(capacity >= 1)) throw new RangeError(`channel capacity must be at least 1, got ${capacity}`);
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#items.length;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Queues an item, waiting for room. False if the channel was closed: the item was not taken. */
  async send(item: T, signal?: AbortSignal): Promise<boolean> {
    while (!this.#closed && this.#items.length >= this.#capacity) {
      signal?.throwIfAborted();
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waitingWriters.push(resolve);
      const wake = () => resolve();
      signal?.addEventListener('abort', wake, { once: true });
      await promise;
      signal?.removeEventListener('abort', wake);
    }
    return this.trySend(item);
  }

  /** Queues an item if there is room and it isn't closed. */
  trySend(item: T): boolean {
    if (this.#closed || this.#items.length >= this.#capacity) return false;
    this.#items.push(item);
    this.#wakeReader?.();
    return true;
  }

  /** Takes the next item out of turn if it is there and wanted. For the reader. */
  takeIf(wanted: (item: T) => boolean): T | undefined {
    const [item] = this.#items;
    if (item === undefined || !wanted(item)) return undefined;
    this.#items.shift();
    this.#waitingWriters.shift()?.();
    return item;
  }

  /** No more items; what is queued can still be read. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#wakeReader?.();
    for (const wake of this.#waitingWriters.splice(0)) wake();
  }

  /** Like close, but the reader gets `error` instead of what is queued. */
  fail(error: unknown): void {
    if (this.#closed) return;
    this.#failure = { error };
    this.#items.length = 0;
    this.close();
  }

  /** One reader only. Leaving the loop closes the channel. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      for (;;) {
        while (this.#items.length > 0) {
          const item = this.#items.shift() as T;
          this.#waitingWriters.shift()?.();
          yield item;
        }
        if (this.#failure !== undefined) throw this.#failure.error;
        if (this.#closed) return;
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#wakeReader = resolve;
        await promise;
        this.#wakeReader = undefined;
      }
    } finally {
      this.close();
    }
  }
}

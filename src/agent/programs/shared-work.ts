// Work that several may wait for at once and that is done once. Each waiter leaves with its own signal; when the last one has
// left, the work is told to stop.

interface Shared<T> {
  readonly result: Promise<T>;
  readonly stop: AbortController;
  waiting: number;
}

/** Work under way, by key. */
export class SharedWork<T> {
  readonly #running = new Map<string, Shared<T>>();

  /** True while work of this key is under way. */
  has(key: string): boolean {
    return this.#running.has(key);
  }

  /** The result of the work of this key, begun unless it is under way. Rejects with the signal's reason if that aborts first. */
  async run(key: string, work: (stop: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const shared = this.#joined(key) ?? this.#begin(key, work);
    shared.waiting += 1;
    const left = Promise.withResolvers<never>();
    const leave = () => left.reject(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
    try {
      return await Promise.race([shared.result, left.promise]);
    } finally {
      signal.removeEventListener('abort', leave);
      shared.waiting -= 1;
      if (shared.waiting === 0) shared.stop.abort(signal.reason);
    }
  }

  /** Work that was told to stop gives nothing any more. */
  #joined(key: string): Shared<T> | undefined {
    const shared = this.#running.get(key);
    return shared?.stop.signal.aborted ? undefined : shared;
  }

  /** Begins after work of this key that is still coming to its end: both would write to the same place. */
  #begin(key: string, work: (stop: AbortSignal) => Promise<T>): Shared<T> {
    const before = this.#running.get(key)?.result.catch(() => undefined);
    const stop = new AbortController();
    const run = async () => {
      await before;
      stop.signal.throwIfAborted();
      return await work(stop.signal);
    };
    const shared: Shared<T> = { result: run(), stop, waiting: 0 };
    this.#running.set(key, shared);
    const over = () => {
      if (this.#running.get(key) === shared) this.#running.delete(key);
    };
    shared.result.then(over, over);
    return shared;
  }
}

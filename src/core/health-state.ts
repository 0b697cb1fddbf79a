// Whether services can be used now: what grpc.health.v1 answers, whatever it is served on.

/** Serving status by service name; the empty name stands for the whole. */
export class HealthState {
  readonly #statuses = new Map<string, boolean>();
  readonly #watchers = new Set<() => void>();

  /** Everything named serves from the start. */
  constructor(services: Iterable<string>) {
    for (const service of ['', ...services]) this.#statuses.set(service, true);
  }

  /** Sets the status of every service, as at the beginning of a shutdown. */
  setAll(serving: boolean): void {
    for (const service of this.#statuses.keys()) this.#statuses.set(service, serving);
    for (const wake of this.#watchers) wake();
  }

  /** Undefined for a service that isn't here. */
  status(service: string): boolean | undefined {
    return this.#statuses.get(service);
  }

  /** Names and statuses. */
  entries(): Iterable<[string, boolean]> {
    return this.#statuses.entries();
  }

  /** The status now, and on each change, until the signal aborts. Changes that nobody waits for are coalesced. */
  async *watch(service: string, signal: AbortSignal): AsyncGenerator<boolean | undefined> {
    let last: boolean | undefined | null = null;
    let changed = Promise.withResolvers<void>();
    const wake = (): void => changed.resolve();
    this.#watchers.add(wake);
    signal.addEventListener('abort', wake, { once: true });
    try {
      while (!signal.aborted) {
        changed = Promise.withResolvers<void>();
        const now = this.status(service);
        if (now !== last) {
          last = now;
          yield now;
        }
        // A change since the look has resolved it already.
        if (!signal.aborted) await changed.promise;
      }
    } finally {
      this.#watchers.delete(wake);
      signal.removeEventListener('abort', wake);
    }
  }
}

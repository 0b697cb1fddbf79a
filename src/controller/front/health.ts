// grpc.health.v1 for the operators' stack: what is served, and whether it can be used now.
import type { ServiceImpl } from '@connectrpc/connect';
import { type Health, HealthCheckResponse_ServingStatus as Status } from '#gen/health/v1/health_pb.js';
import { LonglineError } from '../../core/errors.ts';

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

const statusOf = (serving: boolean) => (serving ? Status.SERVING : Status.NOT_SERVING);

/** The implementation of grpc.health.v1.Health. */
export function healthService(state: HealthState): ServiceImpl<typeof Health> {
  return {
    check({ service }) {
      const serving = state.status(service);
      if (serving === undefined) {
        throw new LonglineError('not_found', `service: ${JSON.stringify(service.slice(0, 200))} isn't served here`);
      }
      return { status: statusOf(serving) };
    },
    async *watch({ service }, { signal }) {
      for await (const serving of state.watch(service, signal)) {
        yield { status: serving === undefined ? Status.SERVICE_UNKNOWN : statusOf(serving) };
      }
    },
    list() {
      const statuses: Record<string, { status: Status }> = {};
      for (const [service, serving] of state.entries()) statuses[service] = { status: statusOf(serving) };
      return { statuses };
    },
  };
}

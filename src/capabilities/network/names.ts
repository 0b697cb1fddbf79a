// Host names of peers: resolved when they are first needed, and again while their peer is in trouble, at growing intervals. As long as
// the peer fares well its address stays, so that nothing flaps with the order of answers. A name that can't be resolved keeps its last
// address if it ever had one; else its peer waits.
import { Backoff } from '../../core/backoff.ts';
import type { Clock } from '../../core/clock.ts';
import { isResolved } from '../../core/network/endpoint.ts';
import type { EndpointResolver } from './ports.ts';

const RETRY = { baseMs: 5_000, capMs: 120_000 } as const;
const LEAST_MS = 1_000;

interface Name {
  resolved: string | undefined;
  dueAtMs: number;
  readonly backoff: Backoff;
}

/** One per network. Calls of `resolve` must not overlap. */
export class Names {
  readonly #resolver: EndpointResolver;
  readonly #clock: Clock;
  /** By endpoint. */
  readonly #names = new Map<string, Name>();

  constructor(resolver: EndpointResolver, clock: Clock) {
    this.#resolver = resolver;
    this.#clock = clock;
  }

  /** What an endpoint was resolved to in an earlier life: kept without asking for as long as its peer fares well. */
  recall(endpoint: string, resolved: string): void {
    if (isResolved(endpoint)) return;
    this.#names.set(endpoint, { resolved, dueAtMs: Number.POSITIVE_INFINITY, backoff: new Backoff(RETRY) });
  }

  /**
   * Addresses with ports by endpoint, of those that are names and can be resolved. Those that are due are asked for first; those that
   * are not among them any more are forgotten.
   */
  async resolve(endpoints: Iterable<string>, signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
    const wanted = new Set([...endpoints].filter((endpoint) => !isResolved(endpoint)));
    for (const endpoint of this.#names.keys()) if (!wanted.has(endpoint)) this.#names.delete(endpoint);
    const nowMs = this.#clock.monotonic();
    const due = [...wanted].filter((endpoint) => (this.#names.get(endpoint)?.dueAtMs ?? 0) <= nowMs);
    if (due.length > 0) {
      // What has an address and is asked for again is so because the peer doesn't answer there.
      const failing = new Set(due.filter((endpoint) => this.#names.get(endpoint)?.resolved !== undefined));
      const answers = await this.#resolver.resolve(due, signal, failing);
      for (const endpoint of due) this.#take(endpoint, answers.get(endpoint));
    }
    const resolved = new Map<string, string>();
    for (const [endpoint, name] of this.#names) if (name.resolved !== undefined) resolved.set(endpoint, name.resolved);
    return resolved;
  }

  /** The peer behind an endpoint doesn't answer: its name is asked for again in a while, unless that is planned already. */
  suspect(endpoint: string): void {
    const name = this.#names.get(endpoint);
    if (name?.dueAtMs === Number.POSITIVE_INFINITY)
      name.dueAtMs = this.#clock.monotonic() + name.backoff.next(LEAST_MS);
  }

  /** The peer behind an endpoint answers. */
  trust(endpoint: string): void {
    const name = this.#names.get(endpoint);
    if (name?.resolved === undefined) return;
    name.backoff.reset();
    name.dueAtMs = Number.POSITIVE_INFINITY;
  }

  /** True for a name that has no address. */
  isUnresolved(endpoint: string): boolean {
    const name = this.#names.get(endpoint);
    return name !== undefined && name.resolved === undefined;
  }

  /** When the next name is to be asked for, on the monotonic clock. */
  get dueAtMs(): number {
    let dueAtMs = Number.POSITIVE_INFINITY;
    for (const name of this.#names.values()) dueAtMs = Math.min(dueAtMs, name.dueAtMs);
    return dueAtMs;
  }

  #take(endpoint: string, answer: string | undefined): void {
    const known = this.#names.get(endpoint);
    const name = known ?? { resolved: undefined, dueAtMs: 0, backoff: new Backoff(RETRY) };
    name.resolved = answer ?? name.resolved;
    // Without an address it is asked for again in any case; with one only if its peer is in trouble.
    const again = this.#clock.monotonic() + name.backoff.next(LEAST_MS);
    name.dueAtMs = name.resolved === undefined ? again : Number.POSITIVE_INFINITY;
    this.#names.set(endpoint, name);
  }
}

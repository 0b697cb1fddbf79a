// Addresses of endpoints that are given by name, as the system resolves them. A lookup can't be stopped, only no longer be waited
// for: one that hangs is not asked again meanwhile, and a few at a time are under way. Nothing here fails: what can't be resolved
// keeps its last address, or has none.
import { lookup } from 'node:dns/promises';
import type { EndpointResolver } from '../../capabilities/network/ports.ts';
import { parseAddress } from '../../core/network/prefix.ts';

const LIMIT_MS = 5_000;
/** Node's own threads, which files and keys need too, are four. */
const MOST_AT_ONCE = 2;
/** As many as an interface has peers. */
const MOST_KEPT = 65_536;

/** All addresses of a host, the best first. Rejects if it has none. */
export type LookUp = (host: string) => Promise<readonly string[]>;

const systemLookUp: LookUp = async (host) => {
  const found = await lookup(host, { all: true, order: 'verbatim' });
  return found.map(({ address }) => address);
};

/** Resolves by the system's own rules: hosts file, DNS and what else it is set to. */
export class NameResolver implements EndpointResolver {
  readonly #lookUp: LookUp;
  readonly #limitMs: number;
  /** By host. */
  readonly #last = new Map<string, string>();
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(options: { readonly lookUp?: LookUp; readonly limitMs?: number } = {}) {
    this.#lookUp = options.lookUp ?? systemLookUp;
    this.#limitMs = options.limitMs ?? LIMIT_MS;
  }

  async resolve(
    endpoints: Iterable<string>,
    signal?: AbortSignal,
    failing: ReadonlySet<string> = new Set(),
  ): Promise<ReadonlyMap<string, string>> {
    const parts = [...endpoints].map((endpoint) => ({ endpoint, ...split(endpoint) }));
    const badHosts = new Set(parts.filter(({ endpoint }) => failing.has(endpoint)).map(({ host }) => host));
    const hosts = new Set(parts.map(({ host }) => host));
    await within(this.#refreshAll(hosts, badHosts, signal), this.#limitMs, signal);
    const resolved = new Map<string, string>();
    for (const { endpoint, host, port } of parts) {
      const address = this.#last.get(host);
      if (address !== undefined)
        resolved.set(endpoint, address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);
    }
    return resolved;
  }

  async #refreshAll(
    hosts: ReadonlySet<string>,
    failing: ReadonlySet<string>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const endsAt = performance.now() + this.#limitMs;
    const asked: Promise<void>[] = [];
    for (const host of hosts) {
      while (this.#underWay.size >= MOST_AT_ONCE && !this.#underWay.has(host))
        await Promise.race(this.#underWay.values());
      // Nobody waits for the rest any more.
      if (signal?.aborted === true || performance.now() > endsAt) break;
      const lookup = this.#underWay.get(host) ?? this.#refresh(host, failing.has(host));
      this.#underWay.set(host, lookup);
      asked.push(lookup);
    }
    await Promise.all(asked);
  }

  async #refresh(host: string, isFailing: boolean): Promise<void> {
    try {
      const addresses = (await this.#lookUp(host)).flatMap((text) => parseAddress(text) ?? []);
      const next = choose(addresses, this.#last.get(host), isFailing);
      if (next !== undefined && (this.#last.has(host) || this.#last.size < MOST_KEPT)) this.#last.set(host, next);
    } catch {
      // It has no address now: the last one stands.
    } finally {
      this.#underWay.delete(host);
    }
  }
}

function choose(addresses: readonly string[], last: string | undefined, isFailing: boolean): string | undefined {
  const place = last === undefined ? -1 : addresses.indexOf(last);
  if (place < 0) return addresses[0];
  return isFailing ? addresses[(place + 1) % addresses.length] : last;
}

function split(endpoint: string): { readonly host: string; readonly port: string } {
  const colon = endpoint.lastIndexOf(':');
  return { host: endpoint.slice(0, colon), port: endpoint.slice(colon + 1) };
}

async function within(work: Promise<unknown>, limitMs: number, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const stop = () => resolve();
  const timer = setTimeout(stop, limitMs);
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted === true) stop();
  void work.then(stop);
  await promise;
  clearTimeout(timer);
  signal?.removeEventListener('abort', stop);
}

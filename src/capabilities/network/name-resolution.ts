// Which way name servers of a network are made known, and that what was set one way is taken away the same way, whatever is
// wanted by then. The way is noted before it is used. Fails with `unsupported` if there is none, naming what was looked for.
import { LonglineError } from '../../core/errors.ts';
import type { NetworkSpec } from '../../core/network/network-spec.ts';
import type { StoredRecord } from '../../core/stored-record.ts';
import type { NameServers } from './ports.ts';

/** By network: the way that was used, and for which interface. */
export interface NameResolutionRecord {
  readonly used: Readonly<Record<string, { readonly kind: string; readonly interface: string }>>;
}

export const NO_NAME_RESOLUTION: NameResolutionRecord = { used: {} };

/** Sets name servers of networks. One for all networks; calls must not overlap. */
export class NameResolution {
  readonly #ways: readonly NameServers[];
  readonly #record: StoredRecord<NameResolutionRecord>;

  /** @param ways in the order in which they are preferred. */
  constructor(ways: readonly NameServers[], record: StoredRecord<NameResolutionRecord>) {
    this.#ways = ways;
    this.#record = record;
  }

  /** Makes it so, or takes it away if the spec names no servers. Gives what people should know. */
  async apply(spec: NetworkSpec, interfaceName: string, signal?: AbortSignal): Promise<readonly string[]> {
    if (spec.dns.length === 0) {
      await this.remove(spec.name, signal);
      return [];
    }
    const record = await this.#record.read();
    const before = record.used[spec.name];
    const way = await this.#choose(spec, before?.kind, signal);
    const now = { kind: way.kind, interface: interfaceName };
    if (before?.kind !== now.kind || before.interface !== now.interface) {
      if (before !== undefined) await this.#way(before.kind)?.remove(before.interface, signal);
      await this.#record.write({ used: { ...record.used, [spec.name]: now } });
    }
    return await way.apply(interfaceName, { servers: spec.dns, domains: spec.dnsDomains }, signal);
  }

  /** Takes away what a network has set; nothing happens if it hasn't. */
  async remove(network: string, signal?: AbortSignal): Promise<void> {
    const { used } = await this.#record.read();
    const { [network]: before, ...others } = used;
    if (before === undefined) return;
    await this.#way(before.kind)?.remove(before.interface, signal);
    await this.#record.write({ used: others });
  }

  #way(kind: string): NameServers | undefined {
    return this.#ways.find((way) => way.kind === kind);
  }

  async #choose(spec: NetworkSpec, before: string | undefined, signal: AbortSignal | undefined): Promise<NameServers> {
    const asked = this.#ways.filter((way) => spec.dnsBackend === 'auto' || way.kind === spec.dnsBackend);
    const reasons: string[] = [];
    // What is in use for this network stays, so that a daemon that is started anew changes nothing.
    for (const way of asked.toSorted((left, right) => Number(right.kind === before) - Number(left.kind === before))) {
      const found = await way.probe(signal);
      if (found.kind === 'in_use' || (found.kind === 'usable' && spec.dnsBackend !== 'auto')) return way;
      reasons.push(`${way.kind}: ${found.kind === 'missing' ? found.why : 'nobody on this host asks by it'}`);
    }
    const looked = reasons.join('; ') || `there is no "${spec.dnsBackend}" on this system`;
    throw new LonglineError('unsupported', `dns can't be set: ${looked}`);
  }
}

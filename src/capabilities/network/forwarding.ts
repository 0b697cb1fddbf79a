// Passing packets on: the kernel's switches, which all of a host share, and address translation, which is the network's own.
// A switch that we turned on is turned off again once no network of ours needs it, unless somebody else's firewall passes packets
// on too: they found it on, and would lose what they rely on. Fails if a switch can't be had or rules can't be set.

import type { NetworkSpec } from '../../core/network/network-spec.ts';
import { isDefaultPrefix } from '../../core/network/prefix.ts';
import type { StoredRecord } from '../../core/stored-record.ts';
import type { Firewall, FirewallRules, Sysctls } from './ports.ts';

const BOOT_ID = 'kernel/random/boot_id';
const IPV4_SWITCH = 'net/ipv4/ip_forward';
const IPV6_SWITCH = 'net/ipv6/conf/all/forwarding';

/** What a network wants. */
export interface WantedForwarding {
  /** Switches that have to be on. */
  readonly switches: readonly string[];
  /** Undefined for no rules at all. */
  readonly rules: FirewallRules | undefined;
}

/** What we did to the host's switches. */
export interface ForwardingRecord {
  /** A boot forgets them all. */
  readonly bootId: string;
  /** By switch: what it was before the first network of ours, and which of ours want it. */
  readonly switches: Readonly<Record<string, { readonly before: string; readonly networks: readonly string[] }>>;
}

export const NO_FORWARDING: ForwardingRecord = { bootId: '', switches: {} };

/** What follows from a spec: switches of the families it has, translation, and marks that replies need. */
export function wantedForwarding(spec: NetworkSpec): WantedForwarding {
  const prefixes = [...spec.addresses, ...spec.natSubnets, ...spec.peers.flatMap((peer) => peer.prefixes)];
  const switches: string[] = [];
  if (spec.forward && prefixes.some((prefix) => !prefix.includes(':'))) switches.push(IPV4_SWITCH);
  if (spec.forward && prefixes.some((prefix) => prefix.includes(':'))) switches.push(IPV6_SWITCH);
  const routed = [...spec.routes, ...spec.peers.flatMap((peer) => peer.prefixes)];
  const replyMark = spec.table === 'main' && routed.some(isDefaultPrefix) ? spec.fwmark : undefined;
  const needsRules = spec.natSubnets.length > 0 || replyMark !== undefined;
  return { switches, rules: needsRules ? { masquerade: spec.natSubnets, replyMark } : undefined };
}

/** Keeps the host's forwarding as the networks want it. One for all networks; calls must not overlap. */
export class Forwarding {
  readonly #firewall: Firewall;
  readonly #sysctls: Sysctls;
  readonly #record: StoredRecord<ForwardingRecord>;

  constructor(firewall: Firewall, sysctls: Sysctls, record: StoredRecord<ForwardingRecord>) {
    this.#firewall = firewall;
    this.#sysctls = sysctls;
    this.#record = record;
  }

  /** Makes it so for a network. Gives what people should know of it. */
  async apply(network: string, interfaceName: string, wanted: WantedForwarding): Promise<readonly string[]> {
    const notes: string[] = [];
    const bootId = (await this.#sysctls.read(BOOT_ID)) ?? '';
    for (const key of wanted.switches) {
      await this.#want(bootId, network, key);
      const turned = await this.#sysctls.ensure(key, '1');
      if (turned && key === IPV6_SWITCH) {
        notes.push(
          'forwarding of IPv6 is on now: interfaces of this host that get their routes from router advertisements need accept_ra=2',
        );
      }
    }
    await this.#release(bootId, network, new Set(wanted.switches));
    await this.#firewall.apply(interfaceName, wanted.rules);
    return notes;
  }

  /** Takes away what a network had. */
  async remove(network: string, interfaceName: string): Promise<void> {
    await this.apply(network, interfaceName, { switches: [], rules: undefined });
  }

  /** Notes, before it is done, that a switch is turned on for a network. */
  async #want(bootId: string, network: string, key: string): Promise<void> {
    const record = await this.#current(bootId);
    const entry = record.switches[key] ?? { before: (await this.#sysctls.read(key)) ?? '1', networks: [] };
    if (entry.networks.includes(network)) return;
    const next = { ...entry, networks: [...entry.networks, network] };
    await this.#record.write({ bootId, switches: { ...record.switches, [key]: next } });
  }

  async #release(bootId: string, network: string, kept: ReadonlySet<string>): Promise<void> {
    const record = await this.#current(bootId);
    for (const [key, { before, networks }] of Object.entries(record.switches)) {
      if (kept.has(key) || networks.some((name) => name !== network)) continue;
      // The entry stays until this is done, so that a crash in between does it again.
      if (before === '0' && !(await this.#firewall.othersForward())) await this.#sysctls.ensure(key, '0');
    }
    const left = Object.entries(record.switches)
      .map(([key, { before, networks }]) => {
        const names = kept.has(key) ? networks : networks.filter((name) => name !== network);
        return [key, { before, networks: names }] as const;
      })
      .filter(([, { networks }]) => networks.length > 0);
    const next = left.length === 0 ? NO_FORWARDING : { bootId, switches: Object.fromEntries(left) };
    if (JSON.stringify(next) !== JSON.stringify(record)) await this.#record.write(next);
  }

  async #current(bootId: string): Promise<ForwardingRecord> {
    const record = await this.#record.read();
    return record.bootId === bootId ? record : NO_FORWARDING;
  }
}

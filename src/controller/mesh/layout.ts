// Who has whom as a peer, and with which prefixes. Full: all have all. Hub: each hub has the spokes that it is the home of, and
// the other hubs with their spokes' prefixes; a spoke has its home only, with the whole pool, and so reaches all others through
// it, over two hubs where their homes differ. A spoke's one peer stays as it is when others join or leave. Pure.
import { MeshTopology } from '#gen/longline/fleet/v1/network_service_pb.js';
import type { MeshMemberRecord } from '../store/mesh.ts';

/** What of a mesh its layout depends on. */
export interface LayoutRules {
  readonly topology: MeshTopology;
  /** Canonical prefix. */
  readonly pool: string;
  /** Canonical prefix; empty for none. */
  readonly subnetPool: string;
}

/** A member as another one has it. */
export interface Neighbour {
  readonly member: MeshMemberRecord;
  readonly prefixes: readonly string[];
}

/** What is a member's own: its address, its subnet and what it routes. */
function ownPrefixes({ address, subnet, routes }: MeshMemberRecord): readonly string[] {
  return [address, ...(subnet === '' ? [] : [subnet]), ...routes];
}

/** The hub for a spoke: the one it has, if that is still a hub; else the one with the fewest spokes, the first id of equals. */
export function homesOf(members: readonly MeshMemberRecord[]): ReadonlyMap<string, string> {
  const spokesOf = new Map(members.filter(({ hub }) => hub).map(({ agentId }) => [agentId, 0]));
  const homes = new Map<string, string>();
  const take = (spoke: string, hub: string): void => {
    homes.set(spoke, hub);
    spokesOf.set(hub, spokesOf.get(hub)! + 1);
  };
  const spokes = members.filter(({ hub }) => !hub);
  for (const { agentId, home } of spokes) if (spokesOf.has(home)) take(agentId, home);
  for (const { agentId } of spokes) {
    if (homes.has(agentId) || spokesOf.size === 0) continue;
    const [least] = [...spokesOf].reduce((best, one) => (one[1] < best[1] ? one : best));
    take(agentId, least);
  }
  return homes;
}

/** The neighbours of every member, by its id. Members that are leaving have to be left out by the caller. */
export class Layout {
  readonly #rules: LayoutRules;
  /** With their own prefixes; one object each, however many have it as a neighbour. */
  readonly #members: readonly Neighbour[];
  readonly #hubs: readonly Neighbour[];
  /** Spokes by their home. */
  readonly #spokes = new Map<string, Neighbour[]>();

  constructor(rules: LayoutRules, members: readonly MeshMemberRecord[]) {
    this.#rules = rules;
    this.#members = members.map((member) => ({ member, prefixes: ownPrefixes(member) }));
    this.#hubs = this.#members.filter(({ member }) => member.hub);
    for (const spoke of this.#members) {
      const { home, hub } = spoke.member;
      if (hub || home === '') continue;
      const spokes = this.#spokes.get(home);
      if (spokes === undefined) this.#spokes.set(home, [spoke]);
      else spokes.push(spoke);
    }
  }

  neighbours(of: MeshMemberRecord): readonly Neighbour[] {
    if (this.#rules.topology !== MeshTopology.HUB) return this.#members.filter(({ member }) => member !== of);
    if (of.hub) {
      const others = this.#hubs.filter(({ member }) => member !== of);
      return [...(this.#spokes.get(of.agentId) ?? []), ...others.map((hub) => this.#withSpokes(hub))];
    }
    return this.#hubs.filter(({ member }) => member.agentId === of.home).map((hub) => this.#wayOut(of, hub));
  }

  /** A hub's own prefixes and those of its spokes. */
  #withSpokes({ member, prefixes }: Neighbour): Neighbour {
    const spokes = this.#spokes.get(member.agentId) ?? [];
    return { member, prefixes: [...prefixes, ...spokes.flatMap((spoke) => spoke.prefixes)] };
  }

  /** All there is, at a spoke's home. */
  #wayOut(spoke: MeshMemberRecord, { member }: Neighbour): Neighbour {
    const { pool, subnetPool } = this.#rules;
    const routes = this.#members.filter((other) => other.member !== spoke).flatMap((other) => other.member.routes);
    return { member, prefixes: [pool, ...(subnetPool === '' ? [] : [subnetPool]), ...routes] };
  }
}

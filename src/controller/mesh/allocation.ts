// Addresses and container subnets of members. A member keeps what it has; one that comes back has what it had, unless somebody
// else needed it; whatever else is given is new to all for as long as the pool lasts. Pure.
import type { MeshSpec } from '#gen/longline/fleet/v1/network_service_pb.js';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { splitPrefix } from '../../core/network/prefix.ts';
import type { MeshMemberRecord, MeshRest } from '../store/mesh.ts';
import { Pool } from './pool.ts';

/** Slots of the two pools that a mesh has. */
export interface MeshPools {
  readonly addresses: Pool;
  /** Undefined if members have no subnets. */
  readonly subnets: Pool | undefined;
}

/** Pools of a spec that is canonical and complete. */
export function meshPools(spec: MeshSpec): MeshPools {
  const addresses = Pool.ofAddresses(splitPrefix(spec.pool)!);
  if (spec.subnetPool === '') return { addresses, subnets: undefined };
  return { addresses, subnets: Pool.ofSubnets(splitPrefix(spec.subnetPool)!, spec.subnetLength) };
}

/** What was given, and what rests no more. */
export interface Allocation {
  readonly members: readonly MeshMemberRecord[];
  /** Agents whose rest is used up: they are back, or somebody else has it. */
  readonly removedResting: readonly string[];
}

/**
 * Completes members that have no address or subnet yet. Throws `invalid` for a wanted address that another member has, and
 * `limit` when a pool is exhausted. `fieldOf` says where a member lies in what was asked.
 */
export function allocate(
  pools: MeshPools,
  members: readonly MeshMemberRecord[],
  resting: readonly MeshRest[],
  fieldOf: (agentId: string) => string,
): Allocation {
  const rests = new Map(resting.map((rest) => [rest.agentId, rest]));
  const addresses = settle(pools.addresses, 'address', members, (member) => member.wantedAddress, rests, fieldOf);
  const subnets = pools.subnets && settle(pools.subnets, 'subnet', members, () => '', rests, fieldOf);
  const given = members.map((member, place) => ({
    ...member,
    address: addresses[place]!,
    subnet: subnets?.[place] ?? '',
  }));
  const used = new Set(given.flatMap(({ address, subnet }) => [address, subnet]));
  const back = new Set(given.map(({ agentId }) => agentId));
  const over = resting.filter((rest) => back.has(rest.agentId) || used.has(rest.address) || used.has(rest.subnet));
  return { members: given, removedResting: over.map(({ agentId }) => agentId) };
}

type Kind = 'address' | 'subnet';

function settle(
  pool: Pool,
  kind: Kind,
  members: readonly MeshMemberRecord[],
  wantedOf: (member: MeshMemberRecord) => string,
  rests: ReadonlyMap<string, MeshRest>,
  fieldOf: (agentId: string) => string,
): readonly string[] {
  const held = new Map<string, number>();
  const violations: FieldViolation[] = [];
  const slots = members.map((member) => wantedOf(member) || member[kind]);
  const places = slots.map((_, place) => place).filter((place) => slots[place] !== '');
  const keeps = (place: number) => slots[place] === members[place]![kind];
  // Who has it comes first, so that it is told to who asks for it.
  for (const place of [...places.filter(keeps), ...places.filter((one) => !keeps(one))]) {
    const slot = slots[place]!;
    const other = held.get(slot);
    if (other === undefined) held.set(slot, place);
    else {
      const field = `${fieldOf(members[place]!.agentId)}.address`;
      violations.push({ field, description: taken(slot, members[other]!.agentId) });
    }
  }
  if (violations.length > 0) throw invalid(violations);
  const free = (slot: string | undefined) => slot !== undefined && slot !== '' && pool.has(slot) && !held.has(slot);
  for (const [place, member] of members.entries()) {
    const before = rests.get(member.agentId)?.[kind];
    if (slots[place] !== '' || !free(before)) continue;
    slots[place] = before!;
    held.set(before!, place);
  }
  const resting = new Map([...rests.values()].map((rest) => [rest[kind], rest.leftAtMs]));
  const take = pool.taker(new Set(held.keys()), resting);
  return slots.map((slot) => (slot === '' ? (take() ?? exhausted(kind, pool.size)) : slot));
}

function taken(slot: string, agentId: string): string {
  return `${slot.replace(/\/\d+$/, '')} is that of agent ${agentId}; take another`;
}

function exhausted(kind: Kind, size: bigint): never {
  const pool = kind === 'address' ? 'pool' : 'subnet_pool';
  const what = kind === 'address' ? 'addresses' : 'subnets';
  throw new LonglineError('limit', `${pool} is exhausted: all of its ${size} ${what} are taken by members`, {
    retryable: false,
  });
}

// A mesh as it is asked for, made of the mesh as it is: who joins, who leaves, who stays and keeps what it has. Pure.
import { equals } from '@bufbuild/protobuf';
import { type MeshSpec, MeshSpecSchema } from '#gen/longline/fleet/v1/network_service_pb.js';
import { LonglineError } from '../../core/errors.ts';
import type { MeshMemberRecord, MeshState } from '../store/mesh.ts';
import { allocate, meshPools } from './allocation.ts';

/** What is asked of one member, in canonical form. */
export type AskedMember = Pick<MeshMemberRecord, 'agentId' | 'endpoint' | 'wantedAddress' | 'hub' | 'routes' | 'nat'>;

/** A mesh as it is to be. */
export interface NextMesh {
  /** All, also those that leave. */
  readonly members: readonly MeshMemberRecord[];
  /** Those of them that differ from what is stored. */
  readonly changed: readonly MeshMemberRecord[];
  readonly removedResting: readonly string[];
}

/**
 * Throws `wrong_state` where a pool would change under members, `invalid` for an address that somebody else has, `limit` where
 * a pool is exhausted. `spec` and `before` are complete and canonical; `before` is undefined for a new mesh.
 */
export function nextMesh(
  spec: MeshSpec,
  asked: readonly AskedMember[],
  before: { readonly spec: MeshSpec; readonly state: MeshState } | undefined,
  fieldOf: (agentId: string) => string,
): NextMesh {
  const known = new Map(before?.state.members.map((member) => [member.agentId, member]));
  if (before !== undefined && known.size > 0) checkPools(before.spec, spec);
  const wanted = new Set(asked.map(({ agentId }) => agentId));
  const leaving = [...known.values()]
    .filter(({ agentId }) => !wanted.has(agentId))
    .map((member) => ({ ...member, leaving: true }));
  const present = asked.map((member) => joined(member, known.get(member.agentId)));
  const { members, removedResting } = allocate(
    meshPools(spec),
    [...present, ...leaving],
    before?.state.resting ?? [],
    fieldOf,
  );
  const changed = members.filter((member) => !same(member, known.get(member.agentId)));
  return { members, changed, removedResting };
}

/** True if two complete and canonical specs without members ask for the same. */
export function sameSpec(one: MeshSpec, other: MeshSpec): boolean {
  return equals(MeshSpecSchema, one, other);
}

function joined(asked: AskedMember, known: MeshMemberRecord | undefined): MeshMemberRecord {
  // Who comes back before it was gone may have forgotten its keys already: it says which it has.
  if (known !== undefined) return { ...known, ...asked, ...(known.leaving ? { publicKey: '', leaving: false } : {}) };
  const none = { address: '', subnet: '', home: '', publicKey: '' };
  return { ...asked, ...none, keyEpoch: 0, lastEpoch: 0, keySinceMs: 0, leaving: false };
}

function checkPools(before: MeshSpec, spec: MeshSpec): void {
  const refuse = (field: string, is: string | number, asked: string | number): never => {
    const message = `${field} is ${is} and can't become ${asked} while the mesh has members; make another mesh`;
    throw new LonglineError('wrong_state', message);
  };
  if (before.pool !== spec.pool) refuse('pool', before.pool, spec.pool);
  if (before.subnetPool === '') return;
  if (before.subnetPool !== spec.subnetPool) refuse('subnet_pool', before.subnetPool, spec.subnetPool || 'none');
  if (before.subnetLength !== spec.subnetLength) refuse('subnet_length', before.subnetLength, spec.subnetLength);
}

function same(one: MeshMemberRecord, other: MeshMemberRecord | undefined): boolean {
  if (other === undefined) return false;
  const { routes, ...rest } = one;
  const fields = Object.keys(rest) as (keyof typeof rest)[];
  return fields.every((field) => one[field] === other[field]) && routes.join() === other.routes.join();
}

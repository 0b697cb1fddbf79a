// When the key of a member is due to be replaced by itself. One member of a mesh after the other, at times spread by chance
// that doesn't change, so that meshes made at once don't rotate at once. Pure but for the id of the rotation.
import { createHash } from 'node:crypto';
import { durationMs } from '@bufbuild/protobuf/wkt';
import type { MeshSpec } from '#gen/longline/fleet/v1/network_service_pb.js';
import { newId } from '../../core/ids.ts';
import type { KeyRotationRecord, MeshMemberRecord, MeshState } from '../store/mesh.ts';
import { queuedRotation } from './key-rotation.ts';
import { MemberNetworks } from './member-network.ts';

/** Part of the period by which a rotation comes early at most. */
const SPREAD = 0.1;

/**
 * A rotation to begin: of the member that is overdue most. None while there is another one, nor for a member that is away or
 * has a peer that is: it would only wait for it, and keep all others waiting.
 */
export function dueRotation(
  spec: MeshSpec,
  state: MeshState,
  online: ReadonlySet<string>,
  nowMs: number,
): KeyRotationRecord | undefined {
  if (spec.rotateEvery === undefined || state.rotations.length > 0 || state.mesh.removing) return undefined;
  const everyMs = durationMs(spec.rotateEvery);
  const networks = new MemberNetworks(spec, state.members, undefined);
  const ready = (member: MeshMemberRecord): boolean =>
    online.has(member.agentId) && networks.neighbours(member).every((peer) => online.has(peer.member.agentId));
  const due = state.members
    .filter(({ leaving, publicKey }) => !leaving && publicKey !== '')
    .map((member) => ({ member, atMs: member.keySinceMs + everyMs * (1 - SPREAD * chanceOf(member)) }))
    .filter(({ atMs }) => atMs <= nowMs)
    .sort((one, other) => one.atMs - other.atMs)
    .find(({ member }) => ready(member));
  return due && queuedRotation(newId(nowMs), spec.name, due.member, nowMs);
}

/** From 0 to 1, the same for a key whenever it is asked. */
function chanceOf({ publicKey }: MeshMemberRecord): number {
  return createHash('sha256').update(publicKey).digest().readUInt32BE() / 0xffff_ffff;
}

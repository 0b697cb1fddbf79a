// Meshes and rotations as the API shows them. Pure.
import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type Mesh,
  type MeshMember,
  MeshMemberSchema,
  type MeshMemberStatus,
  MeshMemberStatusSchema,
  MeshSchema,
  type MeshSpec,
  MeshSpecSchema,
  MeshTopology,
  type Rotation,
  RotationSchema,
  RotationStep,
} from '#gen/longline/fleet/v1/network_service_pb.js';
import { ErrorReason, ErrorSchema, type Error as WireError } from '#gen/longline/v1/error_pb.js';
import { coveringPrefixes, lengthsOf } from '../../core/network/prefix.ts';
import { standingOf } from '../networks/agent-report.ts';
import { readReport } from '../states/standing.ts';
import type { KeyRotationRecord, KeyRotationStep, MeshMemberRecord, MeshState } from '../store/mesh.ts';
import type { MemberFactsRecord } from '../store/network.ts';

/** Names listed in one warning. */
const MAX_NAMED = 5;

/** Overlapping routes that are told of. */
const MAX_OVERLAPS = 20;

const STEPS: Readonly<Record<KeyRotationStep, RotationStep>> = {
  // It has no step yet: another member's key is being replaced before.
  queued: RotationStep.UNSPECIFIED,
  prepare: RotationStep.PREPARE,
  stage: RotationStep.STAGE,
  switch: RotationStep.SWITCH,
  move: RotationStep.MOVE,
  remove: RotationStep.REMOVE,
  done: RotationStep.DONE,
};

/** A rotation. */
export function rotationView(record: KeyRotationRecord): Rotation {
  const { id, mesh, agentId, step, undoing, oldKey, newKey, waitingFor, startedAtMs, endedAtMs } = record;
  return create(RotationSchema, {
    id,
    mesh,
    agentId,
    step: STEPS[step],
    undoing,
    oldKey,
    newKey,
    waitingFor: [...waitingFor].sort(),
    startTime: timestampFromMs(startedAtMs),
    ...(endedAtMs === undefined ? {} : { endTime: timestampFromMs(endedAtMs) }),
  });
}

/** A mesh with its members; `facts` are what their agents say, where anything is known. */
export function meshView(state: MeshState, facts: readonly MemberFactsRecord[]): Mesh {
  const { mesh } = state;
  const spec = fromBinary(MeshSpecSchema, mesh.spec);
  const present = state.members.filter(({ leaving }) => !leaving);
  spec.members = askedMembers(state.members);
  const known = new Map(facts.map((record) => [record.agentId, record]));
  const members = [...state.members].sort((one, other) => (one.agentId < other.agentId ? -1 : 1));
  return create(MeshSchema, {
    spec,
    members: members.map((member) => memberView(member, known.get(member.agentId), state.members)),
    createTime: timestampFromMs(mesh.createdAtMs),
    updateTime: timestampFromMs(mesh.updatedAtMs),
    warnings: [...meshWarnings(spec, present)],
    removing: mesh.removing,
  });
}

/** Members as they were asked for, without those that leave. */
export function askedMembers(members: readonly MeshMemberRecord[]): MeshMember[] {
  return members.filter(({ leaving }) => !leaving).map((member) => memberAsked(member, member.wantedAddress));
}

const bare = (prefix: string): string => prefix.replace(/\/\d+$/, '');

function memberAsked({ agentId, endpoint, hub, nat, routes }: MeshMemberRecord, address: string): MeshMember {
  return create(MeshMemberSchema, { agentId, endpoint, address: bare(address), hub, routes: [...routes], nat });
}

function memberView(
  member: MeshMemberRecord,
  facts: MemberFactsRecord | undefined,
  all: readonly MeshMemberRecord[],
): MeshMemberStatus {
  const { keyEpoch, keySinceMs, leaving, publicKey, subnet } = member;
  const report = facts?.report && readReport(facts.report.bytes);
  const network = facts?.network;
  const standing = network && standingOf(network, report, facts.refusal);
  const error = standing?.error ?? copiedKey(member, standing?.status?.keys ?? [], all);
  return create(MeshMemberStatusSchema, {
    member: memberAsked(member, member.address),
    subnet,
    publicKey,
    keyEpoch,
    applied: standing?.applied ?? false,
    leaving,
    ...(keySinceMs === 0 ? {} : { keyTime: timestampFromMs(keySinceMs) }),
    ...(error === undefined ? {} : { error }),
  });
}

/** A member whose key is another's, as with a copied data folder, is nobody's peer. */
function copiedKey(
  { agentId, keyEpoch, publicKey }: MeshMemberRecord,
  keys: readonly { readonly epoch: number; readonly publicKey: string }[],
  all: readonly MeshMemberRecord[],
): WireError | undefined {
  const told = keys.find(({ epoch }) => epoch === keyEpoch)?.publicKey ?? '';
  const owner = all.find((other) => other.publicKey === told && told !== '' && other.agentId !== agentId);
  if (owner === undefined || publicKey === told) return undefined;
  const message = `its key is that of agent ${owner.agentId}: a copied data folder; give it an empty one`;
  return create(ErrorSchema, { reason: ErrorReason.ALREADY_EXISTS, message });
}

function meshWarnings(spec: MeshSpec, members: readonly MeshMemberRecord[]): readonly string[] {
  const warnings: string[] = [];
  const hubs = members.filter(({ hub }) => hub);
  if (spec.topology === MeshTopology.HUB) {
    if (hubs.length === 0 && members.length > 0) warnings.push('there is no hub: members reach nobody');
  } else {
    const hidden = members.filter(({ endpoint }) => endpoint === '');
    if (hidden.length > 1) warnings.push(`${named(hidden)} have no endpoint and can't reach each other`);
  }
  return [...warnings, ...overlaps(members)];
}

/** Routes that lie in those of others: looked up by what covers them, since there may be hundreds of thousands. */
function overlaps(members: readonly MeshMemberRecord[]): readonly string[] {
  const owners = new Map(members.flatMap(({ agentId, routes }) => routes.map((route) => [route, agentId])));
  const lengths = lengthsOf(owners.keys());
  const warnings: string[] = [];
  for (const [route, agentId] of owners) {
    for (const wider of coveringPrefixes(route, lengths)) {
      const owner = owners.get(wider) ?? agentId;
      if (owner === agentId) continue;
      warnings.push(`${route} of ${agentId} lies in ${wider} of ${owner}, which has only what is left of that`);
      if (warnings.length === MAX_OVERLAPS) return warnings;
      break;
    }
  }
  return warnings;
}

function named(members: readonly MeshMemberRecord[]): string {
  const ids = members.slice(0, MAX_NAMED).map(({ agentId }) => agentId);
  return members.length > MAX_NAMED ? `${ids.join(', ')} and ${members.length - MAX_NAMED} more` : ids.join(', ');
}

// Networks of a fleet, meshes and rotations as machine output, in the shapes that views.ts promises, and as rows of tables.
import { toJson } from '@bufbuild/protobuf';
import {
  type Mesh,
  type MeshMemberStatus,
  MeshSpecSchema,
  MeshTopology,
  type Network,
  type Rotation,
  RotationStep,
} from '#gen/longline/fleet/v1/network_service_pb.js';
import { type NetworkProblem, NetworkSpecSchema, NetworkState } from '#gen/longline/v1/network_pb.js';
import { ageOf } from '../age.ts';
import type { TableColumn } from '../table.ts';
import { timeView, type View, wireErrorView, wordOf } from '../views.ts';
import { networkStateName, networkStatusView } from './views.ts';

/** A network of an agent. */
export function fleetNetworkView(network: Network): View {
  const { error, spec, status } = network;
  return {
    agent_id: network.agentId,
    name: spec?.name ?? '',
    mesh: network.mesh || null,
    generation: network.generation,
    applied: network.applied,
    removing: network.removing,
    error: error === undefined ? null : wireErrorView(error),
    spec: spec === undefined ? null : toJson(NetworkSpecSchema, spec, { useProtoFieldName: true }),
    status: status === undefined ? null : networkStatusView(status),
    status_at: timeView(network.statusTime),
    updated_at: timeView(network.updateTime),
  };
}

/** A problem or warning. */
export function problemView({ field, harmless, message }: NetworkProblem): View {
  return { field, message, harmless };
}

/** State in words: what the agent says, with a mark while that is not of what is wanted. */
export function fleetStateText({ applied, error, removing, status }: Network): string {
  if (removing) return 'removing';
  if (error !== undefined) return 'refused';
  const state = status === undefined ? '' : networkStateName(status.state);
  if (!applied) return state === '' ? 'waiting' : `${state} (changing)`;
  return state === '' ? 'applied' : state;
}

/** True if a network is as wanted and works; false as long as that may still come. */
export function isBroughtAbout({ applied, status }: Network): boolean {
  const works = status?.state === NetworkState.UP || status?.state === NetworkState.DEGRADED;
  return applied && works;
}

/** One row for each network. */
export function networkColumns(nowMs: number): readonly TableColumn<Network>[] {
  return [
    { heading: 'agent', value: ({ agentId }) => agentId },
    { heading: 'network', value: ({ spec }) => spec?.name ?? '' },
    { heading: 'state', value: fleetStateText },
    { heading: 'interface', value: ({ spec, status }) => status?.interface || spec?.interface || '-' },
    { heading: 'addresses', value: ({ spec }) => spec?.addresses.join(' ') || '-' },
    { heading: 'peers', align: 'right', value: peersText },
    { heading: 'mesh', value: ({ mesh }) => mesh || '-' },
    { heading: 'changed', value: ({ updateTime }) => ageOf(updateTime, nowMs) },
  ];
}

function peersText({ status }: Network): string {
  if (status?.counts === undefined) return '-';
  const { active, idle, suspect, stale } = status.counts;
  return `${active} of ${active + idle + suspect + stale}`;
}

/** "full" for MeshTopology.FULL. */
export function topologyName(topology: MeshTopology): string {
  return wordOf(MeshTopology[topology]) || 'full';
}

function memberView({ applied, error, keyEpoch, keyTime, leaving, member, publicKey, subnet }: MeshMemberStatus): View {
  return {
    agent_id: member?.agentId ?? '',
    address: member?.address ?? '',
    endpoint: member?.endpoint || null,
    hub: member?.hub ?? false,
    routes: member?.routes ?? [],
    nat: member?.nat ?? false,
    subnet: subnet || null,
    public_key: publicKey || null,
    key_epoch: keyEpoch,
    key_at: timeView(keyTime),
    applied,
    leaving,
    error: error === undefined ? null : wireErrorView(error),
  };
}

/** A mesh with its members. */
export function meshView(mesh: Mesh): View {
  const spec = mesh.spec === undefined ? null : toJson(MeshSpecSchema, mesh.spec, { useProtoFieldName: true });
  return {
    name: mesh.spec?.name ?? '',
    spec,
    members: mesh.members.map(memberView),
    warnings: mesh.warnings,
    removing: mesh.removing,
    created_at: timeView(mesh.createTime),
    updated_at: timeView(mesh.updateTime),
  };
}

/** True if every member told its key and applied what it was asked, and nobody is leaving. */
export function isMeshSettled({ members }: Mesh): boolean {
  return members.every(({ applied, leaving, publicKey }) => applied && publicKey !== '' && !leaving);
}

/** One row for each mesh. */
export function meshColumns(nowMs: number): readonly TableColumn<Mesh>[] {
  return [
    { heading: 'mesh', value: ({ spec }) => spec?.name ?? '' },
    { heading: 'topology', value: ({ spec }) => topologyName(spec?.topology ?? 0) },
    { heading: 'pool', value: ({ spec }) => spec?.pool ?? '' },
    { heading: 'members', align: 'right', value: ({ members }) => String(members.length) },
    { heading: 'ready', align: 'right', value: ({ members }) => String(members.filter(isReady).length) },
    { heading: 'state', value: (mesh) => (mesh.removing ? 'removing' : isMeshSettled(mesh) ? 'up' : 'changing') },
    { heading: 'changed', value: ({ updateTime }) => ageOf(updateTime, nowMs) },
  ];
}

function isReady({ applied, leaving, publicKey }: MeshMemberStatus): boolean {
  return applied && publicKey !== '' && !leaving;
}

/** One row for each member. */
export function memberColumns(nowMs: number): readonly TableColumn<MeshMemberStatus>[] {
  return [
    { heading: 'agent', value: ({ member }) => member?.agentId ?? '' },
    { heading: 'state', value: memberState },
    { heading: 'address', value: ({ member }) => member?.address ?? '' },
    { heading: 'endpoint', value: ({ member }) => member?.endpoint || '-' },
    { heading: 'subnet', value: ({ subnet }) => subnet || '-' },
    { heading: 'role', value: ({ member }) => (member?.hub ? 'hub' : '-') },
    { heading: 'key', align: 'right', value: ({ keyEpoch, publicKey }) => (publicKey === '' ? '-' : String(keyEpoch)) },
    { heading: 'since', value: ({ keyTime }) => ageOf(keyTime, nowMs) },
  ];
}

function memberState(member: MeshMemberStatus): string {
  if (member.leaving) return 'leaving';
  if (member.error !== undefined) return `refused: ${member.error.message}`;
  if (member.publicKey === '') return 'no key yet';
  return member.applied ? 'ready' : 'changing';
}

/** Step of a rotation in words. */
export function stepName({ step, undoing }: Rotation): string {
  if (step === RotationStep.UNSPECIFIED) return 'queued';
  if (step === RotationStep.DONE) return undoing ? 'undone' : 'done';
  return wordOf(RotationStep[step]);
}

/** A rotation. */
export function rotationView(rotation: Rotation): View {
  return {
    id: rotation.id,
    mesh: rotation.mesh,
    agent_id: rotation.agentId,
    step: stepName(rotation),
    undoing: rotation.undoing,
    old_key: rotation.oldKey,
    new_key: rotation.newKey || null,
    waiting_for: rotation.waitingFor,
    started_at: timeView(rotation.startTime),
    ended_at: timeView(rotation.endTime),
  };
}

/** One row for each rotation. */
export function rotationColumns(nowMs: number): readonly TableColumn<Rotation>[] {
  return [
    { heading: 'rotation', value: ({ id }) => id },
    { heading: 'mesh', value: ({ mesh }) => mesh },
    { heading: 'agent', value: ({ agentId }) => agentId },
    { heading: 'step', value: (one) => `${stepName(one)}${one.undoing && one.endTime === undefined ? ' (back)' : ''}` },
    { heading: 'begun', value: ({ startTime }) => ageOf(startTime, nowMs) },
    { heading: 'ended', value: ({ endTime }) => ageOf(endTime, nowMs) },
    { heading: 'waits for', value: ({ waitingFor }) => waitingText(waitingFor) },
  ];
}

/** Some of the agents that are waited for. */
export function waitingText(agents: readonly string[]): string {
  if (agents.length === 0) return '-';
  return agents.length > 5 ? `${agents.slice(0, 5).join(' ')} and ${agents.length - 5} more` : agents.join(' ');
}

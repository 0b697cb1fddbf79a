// Makes the networks of a mesh's members be as the mesh is: what differs is written to what is wanted of their agents, and
// nothing else. Those who join come last, so that the others know them when they first call; so do those who leave, whom the
// others forget first. Fails with the store's own error; what was written by then stays right.
import type { MeshSpec } from '#gen/longline/fleet/v1/network_service_pb.js';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { NetworkChanges, NetworkEdit } from '../networks/network-changes.ts';
import { networkFrames, type PeerFrame, peerFrame, specHash } from '../networks/network-frames.ts';
import type { MeshMemberRecord, MeshState } from '../store/mesh.ts';
import type { MemberFactsRecord, NetworkRecord } from '../store/network.ts';
import { activeRotation } from './key-rotation.ts';
import { MemberNetworks, meshInterface } from './member-network.ts';

/** Members that are written side by side, so that they share commits of the store. */
const CHUNK = 32;

/** What it needs. */
export interface MeshSyncParts {
  readonly changes: NetworkChanges;
  readonly log: Logger;
}

/** Writes what differs. Resolves with the agents that had to be left out; it may be possible later. */
export async function syncMesh(
  { changes, log }: MeshSyncParts,
  spec: MeshSpec,
  state: MeshState,
  facts: readonly MemberFactsRecord[],
): Promise<ReadonlySet<string>> {
  const networks = new MemberNetworks(spec, state.members, activeRotation(state.rotations));
  const records = new Map(facts.map(({ agentId, network }) => [agentId, network]));
  const frames = new PeerFrames();
  const leftOut = new Set<string>();
  const write = async (member: MeshMemberRecord): Promise<void> => {
    const edit = editOf(spec, networks, frames, member);
    if (isDone(edit, records.get(member.agentId))) return;
    try {
      await changes.apply(member.agentId, (before) => {
        const other = before.find(({ name, mesh, removing }) => name === spec.name && mesh !== spec.name && !removing);
        if (other === undefined) return [edit];
        leftOut.add(member.agentId);
        log.warn('a network of its own is in the way of a mesh', { agentId: member.agentId, mesh: spec.name });
        return [];
      });
    } catch (error) {
      // An agent that went away leaves the mesh by itself; one that can't be sent so much must not keep the others.
      if (!(error instanceof LonglineError) || error.reason === 'unavailable') throw error;
      log.warn('member of a mesh not updated', { agentId: member.agentId, mesh: spec.name, err: describeError(error) });
      leftOut.add(member.agentId);
    }
  };
  for (const group of inTurn(state.members)) {
    for (let at = 0; at < group.length; at += CHUNK) {
      await Promise.all(group.slice(at, at + CHUNK).map(write));
    }
  }
  return leftOut;
}

/** Peers that are the same object have the same bytes. */
class PeerFrames {
  readonly #known = new Map<object, PeerFrame>();

  of(network: ReturnType<MemberNetworks['of']>): readonly PeerFrame[] {
    return network.peers.map((peer) => {
      let frame = this.#known.get(peer);
      if (frame === undefined) {
        frame = peerFrame(peer);
        this.#known.set(peer, frame);
      }
      return frame;
    });
  }
}

function editOf(spec: MeshSpec, networks: MemberNetworks, frames: PeerFrames, member: MeshMemberRecord): NetworkEdit {
  if (member.leaving) return { kind: 'remove', name: spec.name };
  const network = networks.of(member);
  const framed = networkFrames(network, frames.of(network));
  const hash = specHash(framed);
  return { kind: 'put', mesh: spec.name, interface: meshInterface(spec), frames: framed, hash };
}

function isDone(edit: NetworkEdit, record: NetworkRecord | undefined): boolean {
  if (edit.kind === 'remove') return record === undefined || record.removing;
  return record !== undefined && !record.removing && Buffer.compare(record.specHash, edit.hash) === 0;
}

/** Groups of members, each to be written before the next. */
function inTurn(members: readonly MeshMemberRecord[]): readonly (readonly MeshMemberRecord[])[] {
  const newest = members.reduce((latest, { keySinceMs }) => Math.max(latest, keySinceMs), 0);
  const isNew = (member: MeshMemberRecord) => member.keySinceMs === newest;
  const staying = members.filter(({ leaving }) => !leaving);
  return [staying.filter((member) => !isNew(member)), staying.filter(isNew), members.filter(({ leaving }) => leaving)];
}

// A stored rotation beside the pure steps of rotation.ts: its turn, the making of the key, and which epochs the host is to
// have at each step. Pure.
import type { KeyRotationRecord, MeshMemberRecord } from '../store/mesh.ts';
import {
  acknowledge,
  addPeer,
  beginRotation,
  dropPeer,
  type HostKey,
  hostKey,
  keysAtPeers,
  type Rotation,
  undoRotation,
} from './rotation.ts';

/** Epochs of the keys that a host is to have: that in use, and one to have ready; the same for none. */
export interface KeyEpochs {
  readonly inUse: number;
  readonly ready: number;
}

/** The rotation that is under way in a mesh, of those that haven't ended. One at a time. */
export function activeRotation(rotations: readonly KeyRotationRecord[]): KeyRotationRecord | undefined {
  return rotations.find(({ step }) => step !== 'queued' && step !== 'done');
}

/** A rotation that waits for its turn. */
export function queuedRotation(id: string, mesh: string, member: MeshMemberRecord, nowMs: number): KeyRotationRecord {
  const { agentId, keyEpoch, publicKey } = member;
  const none = { newEpoch: keyEpoch, newKey: '', peers: [], waitingFor: [], endedAtMs: undefined, undoing: false };
  return { id, mesh, agentId, step: 'queued', oldEpoch: keyEpoch, oldKey: publicKey, startedAtMs: nowMs, ...none };
}

/** Its turn has come: the host is to make the key of `newEpoch`. */
export function prepareRotation(record: KeyRotationRecord, host: MeshMemberRecord): KeyRotationRecord {
  const { keyEpoch: oldEpoch, publicKey: oldKey, lastEpoch } = host;
  return { ...record, step: 'prepare', oldEpoch, oldKey, newEpoch: lastEpoch + 1, waitingFor: [host.agentId] };
}

/** The host has made the key. */
export function stageRotation(
  record: KeyRotationRecord,
  newKey: string,
  peers: readonly string[],
  nowMs: number,
): KeyRotationRecord {
  return merged({ ...record, newKey }, beginRotation(record.agentId, record.oldKey, newKey, peers), nowMs);
}

/** Goes on to what is asked next after all in `done` did what the step asks of them. */
export function acknowledgeAll(record: KeyRotationRecord, done: readonly string[], nowMs: number): KeyRotationRecord {
  const before = pure(record);
  if (before === undefined || before.step === 'done') return record;
  const { step } = before;
  const after = done.reduce((rotation, member) => acknowledge(rotation, step, member), before);
  return after === before ? record : merged(record, after, nowMs);
}

/** Makes those its peers who have it as one now. */
export function withPeers(record: KeyRotationRecord, peers: ReadonlySet<string>, nowMs: number): KeyRotationRecord {
  const before = pure(record);
  if (before === undefined) return record;
  const kept = before.peers.filter((peer) => !peers.has(peer)).reduce(dropPeer, before);
  const after = [...peers].reduce(addPeer, kept);
  return after === before ? record : merged(record, after, nowMs);
}

/** Turns it back; undefined once that is too late. */
export function undone(record: KeyRotationRecord, nowMs: number): KeyRotationRecord | undefined {
  const before = pure(record);
  if (before !== undefined) {
    const after = undoRotation(before);
    return after === undefined ? undefined : merged(record, after, nowMs);
  }
  return record.step === 'done' ? undefined : abandoned(record, nowMs);
}

/** Ends it as it stands: its host is gone, or has other keys by now. */
export function abandoned(record: KeyRotationRecord, nowMs: number): KeyRotationRecord {
  return { ...record, step: 'done', undoing: true, waitingFor: [], endedAtMs: nowMs };
}

/** What peers are to have of a member. */
export function keysOf(member: MeshMemberRecord, rotation: KeyRotationRecord | undefined): readonly HostKey[] {
  const own = rotation?.agentId === member.agentId ? pure(rotation) : undefined;
  if (own !== undefined) return keysAtPeers(own);
  return member.publicKey === '' ? [] : [{ publicKey: member.publicKey, hasPrefixes: true }];
}

/** What keys a member is to have itself. */
export function epochsOf(member: MeshMemberRecord, rotation: KeyRotationRecord | undefined): KeyEpochs {
  const { keyEpoch } = member;
  if (rotation?.agentId !== member.agentId) return { inUse: keyEpoch, ready: keyEpoch };
  const { oldEpoch, newEpoch, step, undoing } = rotation;
  const own = pure(rotation);
  if (own === undefined) return { inUse: oldEpoch, ready: step === 'prepare' ? newEpoch : oldEpoch };
  if (step === 'remove' && !undoing) return { inUse: newEpoch, ready: newEpoch };
  // The key before stays ready for as long as it may have to come back.
  return hostKey(own) === rotation.newKey ? { inUse: newEpoch, ready: oldEpoch } : { inUse: oldEpoch, ready: newEpoch };
}

/** Undefined before the key is made. */
function pure(record: KeyRotationRecord): Rotation | undefined {
  const { agentId: host, newKey, oldKey, peers, step, undoing, waitingFor } = record;
  if (newKey === '' || step === 'queued' || step === 'prepare') return undefined;
  return { host, oldKey, newKey, peers, waitingFor, step, direction: undoing ? 'back' : 'forward' };
}

function merged(record: KeyRotationRecord, rotation: Rotation, nowMs: number): KeyRotationRecord {
  const { direction, peers, step, waitingFor } = rotation;
  const endedAtMs = step === 'done' ? (record.endedAtMs ?? nowMs) : undefined;
  return { ...record, step, peers, waitingFor, undoing: direction === 'back', endedAtMs };
}

// What becomes of a mesh by what agents say: keys become known, those who left are forgotten, rotations go on. Looks at one
// moment of it and gives the change to store, or none; what is to be done at agents follows from what is stored. Pure.
import { MeshTopology } from '#gen/longline/fleet/v1/network_service_pb.js';
import type { KeyRotationRecord, MeshChange, MeshMemberRecord, MeshState } from '../store/mesh.ts';
import {
  abandoned,
  acknowledgeAll,
  activeRotation,
  epochsOf,
  prepareRotation,
  stageRotation,
  withPeers,
} from './key-rotation.ts';
import { homesOf } from './layout.ts';

/** How long what a member had is kept for it after it left. */
const REST_MS = 7 * 86_400_000;

/** What is known of one member's agent. */
export interface MemberFacts {
  /** The agent was deleted or revoked. */
  readonly gone: boolean;
  /** It applied what it was last asked for its network, which works. */
  readonly settled: boolean;
  /** Its network is not wanted any more, and it said that it is away. */
  readonly cleared: boolean;
  /** Public keys by epoch, as it said after it applied what it was last asked; empty before. */
  readonly keys: ReadonlyMap<number, string>;
  /** Epoch of the key that its interface has. */
  readonly keyEpoch: number;
  /** Names of items that it could not bring about: public keys of peers. */
  readonly refused: ReadonlySet<string>;
}

/** What of a change is decided here. */
export type MeshProgress = Pick<
  MeshChange,
  'newLayout' | 'putMembers' | 'removedMembers' | 'putResting' | 'removedResting' | 'putRotations'
>;

/** What a mesh's topology, neighbours and time say. */
export interface ProgressContext {
  readonly topology: MeshTopology;
  /** Agents that have this member as a peer. */
  readonly peersOf: (member: MeshMemberRecord, members: readonly MeshMemberRecord[]) => readonly string[];
  readonly nowMs: number;
}

/**
 * The next change; undefined if there is none to make now. The facts must be of the state's layout, or the agents' words would
 * be taken for an answer to something that they were not asked yet.
 */
export function progressOf(
  state: MeshState,
  facts: ReadonlyMap<string, MemberFacts>,
  context: ProgressContext,
): MeshProgress | undefined {
  return new Pass(state, facts, context).result();
}

class Pass {
  readonly #state: MeshState;
  readonly #facts: ReadonlyMap<string, MemberFacts>;
  readonly #context: ProgressContext;
  readonly #members: Map<string, MeshMemberRecord>;
  readonly #changed = new Set<string>();
  readonly #removed: string[] = [];
  readonly #rotations = new Map<string, KeyRotationRecord>();
  #newLayout = false;

  constructor(state: MeshState, facts: ReadonlyMap<string, MemberFacts>, context: ProgressContext) {
    this.#state = state;
    this.#facts = facts;
    this.#context = context;
    this.#members = new Map(state.members.map((member) => [member.agentId, member]));
  }

  result(): MeshProgress | undefined {
    const { mesh, resting } = this.#state;
    const { nowMs } = this.#context;
    this.#leave();
    const before = activeRotation(this.#state.rotations);
    const rotation = before && this.#checkHost(before);
    this.#learnKeys(rotation);
    this.#findHomes();
    if (rotation !== undefined) this.#rotate(rotation);
    else if (before === undefined) this.#beginNext();
    const removedResting = resting.filter(({ leftAtMs }) => leftAtMs < nowMs - REST_MS).map(({ agentId }) => agentId);
    const left = this.#state.members.filter(({ agentId }) => this.#removed.includes(agentId));
    const change = {
      newLayout: this.#newLayout,
      putMembers: [...this.#changed].flatMap((agentId) => this.#members.get(agentId) ?? []),
      removedMembers: this.#removed,
      putResting: mesh.removing
        ? []
        : left.map(({ agentId, address, subnet }) => ({ agentId, address, subnet, leftAtMs: nowMs })),
      removedResting,
      putRotations: [...this.#rotations.values()],
    };
    const { putMembers, removedMembers, putRotations } = change;
    const some = [putMembers, removedMembers, putRotations, removedResting].some(({ length }) => length > 0);
    return some ? change : undefined;
  }

  /** Who left is forgotten once its network is away; who can't be asked any more, at once. */
  #leave(): void {
    for (const member of this.#state.members) {
      const { agentId, leaving } = member;
      const { gone = true, cleared = false } = this.#facts.get(agentId) ?? {};
      if (gone || (leaving && cleared)) {
        this.#members.delete(agentId);
        this.#removed.push(agentId);
        if (!leaving) this.#newLayout = true;
      }
    }
    for (const rotation of this.#state.rotations) {
      const host = this.#members.get(rotation.agentId);
      if (host === undefined || host.leaving)
        this.#rotations.set(rotation.id, abandoned(rotation, this.#context.nowMs));
    }
  }

  /** A host that has other keys than it said, as after the loss of its data, can't go on with a rotation. */
  #checkHost(before: KeyRotationRecord): KeyRotationRecord | undefined {
    if (this.#rotations.has(before.id)) return undefined;
    const host = this.#members.get(before.agentId)!;
    const keys = this.#facts.get(before.agentId)?.keys ?? new Map<number, string>();
    const differs = (epoch: number, key: string) => key !== '' && keys.has(epoch) && keys.get(epoch) !== key;
    if (!differs(before.oldEpoch, before.oldKey) && !differs(before.newEpoch, before.newKey)) return before;
    const { inUse } = epochsOf(host, before);
    this.#end(before, { ...host, keyEpoch: inUse, publicKey: '' });
    this.#rotations.set(before.id, abandoned(before, this.#context.nowMs));
    return undefined;
  }

  #learnKeys(rotation: KeyRotationRecord | undefined): void {
    const owned = new Set([...this.#members.values()].map(({ publicKey }) => publicKey).concat(rotation?.newKey ?? ''));
    for (const member of this.#members.values()) {
      const { agentId, keyEpoch, leaving, publicKey } = member;
      if (leaving || rotation?.agentId === agentId) continue;
      const key = this.#facts.get(agentId)?.keys.get(keyEpoch);
      // A copied data folder: of two with one key, the one that was there first stays.
      if (key === undefined || key === publicKey || owned.has(key)) continue;
      owned.add(key);
      this.#put({ ...member, publicKey: key, keySinceMs: this.#context.nowMs });
      this.#newLayout = true;
    }
  }

  #findHomes(): void {
    if (this.#context.topology !== MeshTopology.HUB) return;
    const present = [...this.#members.values()].filter(({ leaving }) => !leaving);
    // A hub that has no key yet answers nobody.
    const homes = homesOf(present.filter(({ hub, publicKey }) => !hub || publicKey !== ''));
    for (const member of present) {
      const home = homes.get(member.agentId) ?? '';
      if (member.home === home) continue;
      this.#put({ ...member, home });
      this.#newLayout = true;
    }
  }

  #rotate(before: KeyRotationRecord): void {
    const { nowMs, peersOf } = this.#context;
    const host = this.#members.get(before.agentId)!;
    const peers = peersOf(host, [...this.#members.values()]);
    const after = before.step === 'prepare' ? this.#prepared(before, peers) : withPeers(before, new Set(peers), nowMs);
    // What agents say is an answer to the step as it is stored, and to nothing that is only now decided.
    const next =
      this.#newLayout || after.step !== before.step ? after : acknowledgeAll(after, this.#done(after), nowMs);
    if (next === before) return;
    this.#rotations.set(next.id, next);
    if (next.step !== before.step) this.#newLayout = true;
    if (next.step !== 'done') return;
    const { newEpoch: keyEpoch, newKey: publicKey, oldEpoch, oldKey } = next;
    const key = next.undoing ? { keyEpoch: oldEpoch, publicKey: oldKey } : { keyEpoch, publicKey, keySinceMs: nowMs };
    this.#end(next, { ...host, ...key });
  }

  #prepared(before: KeyRotationRecord, peers: readonly string[]): KeyRotationRecord {
    const key = this.#facts.get(before.agentId)?.keys.get(before.newEpoch);
    if (key === undefined || this.#newLayout) return before;
    // Two peers of one key would have the others refuse all that they are asked.
    if ([...this.#members.values()].some(({ publicKey }) => publicKey === key)) return before;
    return stageRotation(before, key, peers, this.#context.nowMs);
  }

  /** Those who did what the step asks of them. */
  #done({ agentId, newEpoch, newKey, oldEpoch, oldKey, step, undoing, waitingFor }: KeyRotationRecord): string[] {
    return waitingFor.filter((one) => {
      const facts = this.#facts.get(one);
      if (facts === undefined || !facts.settled || facts.refused.has(oldKey) || facts.refused.has(newKey)) return false;
      return step !== 'switch' || one !== agentId || facts.keyEpoch === (undoing ? oldEpoch : newEpoch);
    });
  }

  #beginNext(): void {
    for (const rotation of this.#state.rotations) {
      const host = this.#members.get(rotation.agentId);
      if (this.#rotations.has(rotation.id) || host === undefined || host.publicKey === '') continue;
      const begun = prepareRotation(rotation, host);
      this.#rotations.set(begun.id, begun);
      this.#put({ ...host, lastEpoch: begun.newEpoch });
      this.#newLayout = true;
      return;
    }
  }

  #end(rotation: KeyRotationRecord, host: MeshMemberRecord): void {
    this.#put({ ...host, lastEpoch: Math.max(host.lastEpoch, rotation.newEpoch) });
    this.#newLayout = true;
  }

  #put(member: MeshMemberRecord): void {
    this.#members.set(member.agentId, member);
    this.#changed.add(member.agentId);
  }
}

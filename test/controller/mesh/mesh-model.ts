// A mesh in memory with its agents, each of which does what it is asked whenever a test lets it: without store, bus and time.
import { create } from '@bufbuild/protobuf';
import { type MeshSpec, MeshSpecSchema, MeshTopology } from '#gen/longline/fleet/v1/network_service_pb.js';
import type { NetworkSpec } from '#gen/longline/v1/network_pb.js';
import { activeRotation } from '../../../src/controller/mesh/key-rotation.ts';
import { MemberNetworks } from '../../../src/controller/mesh/member-network.ts';
import { type AskedMember, nextMesh } from '../../../src/controller/mesh/mesh-change.ts';
import { type MemberFacts, type MeshProgress, progressOf } from '../../../src/controller/mesh/progress.ts';
import type { MeshState } from '../../../src/controller/store/mesh.ts';
import { keyNamed } from '../services/network-fixture.ts';

/** An agent, and what it was asked for and has done. */
export interface ModelAgent {
  readonly id: string;
  /** What is wanted of it, as of one generation; undefined for no network. */
  wanted: { readonly generation: number; readonly spec: NetworkSpec | undefined } | undefined;
  /** What it has. */
  has: { readonly generation: number; readonly spec: NetworkSpec | undefined } | undefined;
  /** What the controller knows of that. */
  told: ModelAgent['has'];
  gone: boolean;
}

/** What is asked of a member, with what a test doesn't say left out. */
export function asked(agentId: string, patch: Partial<AskedMember> = {}): AskedMember {
  return { agentId, endpoint: `${agentId}:51820`, wantedAddress: '', hub: false, routes: [], nat: false, ...patch };
}

/** A spec as the shape check leaves it. */
export function meshSpec(patch: Partial<Omit<MeshSpec, '$typeName'>> = {}): MeshSpec {
  const init = { name: 'm', pool: '10.100.0.0/16', topology: MeshTopology.FULL, interface: 'm', listenPort: 51_820 };
  return create(MeshSpecSchema, { ...init, mtu: 1420, persistentKeepaliveSecs: 25, ...patch });
}

/** Key of an agent's epoch. */
export const keyOf = (agentId: string, epoch: number): string => keyNamed(`${agentId}/${epoch}`);

/** The key that an agent's interface has. */
export function actualKey({ has, id }: ModelAgent): string | undefined {
  return has?.spec && keyOf(id, has.spec.keyEpoch);
}

/** A mesh and its agents. */
export class MeshModel {
  readonly agents = new Map<string, ModelAgent>();
  spec: MeshSpec;
  state: MeshState;
  nowMs = 1;

  constructor(spec: MeshSpec) {
    this.spec = spec;
    const times = { createdAtMs: 0, updatedAtMs: 0 };
    const mesh = { name: spec.name, spec: new Uint8Array(), revision: 0, layout: 0, removing: false, ...times };
    this.state = { mesh, members: [], resting: [], rotations: [] };
  }

  /** Asks for these members. */
  put(members: readonly AskedMember[]): void {
    const before = { spec: this.spec, state: this.state };
    const next = nextMesh(this.spec, members, before, (agentId) => agentId);
    for (const { agentId } of members) {
      const fresh: ModelAgent = { id: agentId, wanted: undefined, has: undefined, told: undefined, gone: false };
      if (!this.agents.has(agentId)) this.agents.set(agentId, fresh);
    }
    this.change({ newLayout: true, putMembers: next.changed, removedResting: next.removedResting });
  }

  change(change: MeshProgress): void {
    const { mesh, members, resting, rotations } = this.state;
    const changed = new Map(members.map((member) => [member.agentId, member]));
    for (const agentId of change.removedMembers ?? []) changed.delete(agentId);
    for (const member of change.putMembers ?? []) changed.set(member.agentId, member);
    const rests = new Map(resting.map((rest) => [rest.agentId, rest]));
    for (const agentId of change.removedResting ?? []) rests.delete(agentId);
    for (const rest of change.putResting ?? []) rests.set(rest.agentId, rest);
    const all = new Map(rotations.map((rotation) => [rotation.id, rotation]));
    for (const rotation of change.putRotations ?? []) all.set(rotation.id, rotation);
    const revision = mesh.revision + 1;
    this.state = {
      mesh: { ...mesh, revision, layout: change.newLayout ? revision : mesh.layout },
      members: [...changed.values()].sort((one, other) => (one.agentId < other.agentId ? -1 : 1)),
      resting: [...rests.values()],
      rotations: [...all.values()].filter(({ endedAtMs }) => endedAtMs === undefined),
    };
  }

  #networks(members = this.state.members): MemberNetworks {
    return new MemberNetworks(this.spec, members, activeRotation(this.state.rotations));
  }

  /** Asks agents for what the mesh is now; as if killed before the member of this number. False if it was. */
  sync(killedBefore = Number.POSITIVE_INFINITY): boolean {
    const networks = this.#networks();
    for (const [place, member] of this.state.members.entries()) {
      if (place >= killedBefore) return false;
      const agent = this.agents.get(member.agentId)!;
      const spec = member.leaving ? undefined : networks.of(member);
      const known = JSON.stringify(agent.wanted?.spec) === JSON.stringify(spec);
      if (!known) agent.wanted = { generation: (agent.wanted?.generation ?? 0) + 1, spec };
    }
    return true;
  }

  /** The mesh takes the next step, if there is one. All agents have to be asked for what it is now. */
  progress(): boolean {
    const facts = new Map(this.state.members.map(({ agentId }) => [agentId, this.#facts(agentId)]));
    const peersOf: Parameters<typeof progressOf>[2]['peersOf'] = (member, members) =>
      this.#networks([...members])
        .neighbours(member)
        .map((one) => one.member.agentId);
    const { topology } = this.spec;
    const progress = progressOf(this.state, facts, { topology, peersOf, nowMs: this.nowMs++ });
    if (progress !== undefined) this.change(progress);
    return progress !== undefined;
  }

  /** An agent does what is wanted of it. */
  apply(id: string): void {
    const agent = this.agents.get(id)!;
    agent.has = agent.wanted;
  }

  tell(id: string): void {
    const agent = this.agents.get(id)!;
    agent.told = agent.has;
  }

  /** Everybody does everything, until nothing is left to do. */
  settle(): void {
    for (let turn = 0; turn < 200; turn++) {
      this.sync();
      for (const id of this.agents.keys()) {
        if (this.agents.get(id)!.gone) continue;
        this.apply(id);
        this.tell(id);
      }
      if (!this.progress()) return;
    }
    throw new Error('the mesh does not come to rest');
  }

  #facts(agentId: string): MemberFacts {
    const { gone, told, wanted } = this.agents.get(agentId)!;
    const answer = told !== undefined && told.generation === wanted?.generation ? told.spec : undefined;
    const epochs = answer === undefined ? [] : [answer.keyEpoch, answer.nextKeyEpoch];
    return {
      gone,
      settled: answer !== undefined,
      cleared: wanted?.spec === undefined && told?.generation === wanted?.generation,
      keys: new Map(epochs.map((epoch) => [epoch, keyOf(agentId, epoch)])),
      keyEpoch: answer?.keyEpoch ?? 0,
      refused: new Set(),
    };
  }
}

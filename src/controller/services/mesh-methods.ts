// The methods of NetworkService for meshes. Each stores what is asked for, against the mesh that it read, and leaves the rest
// to the driver.
import { clone, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import {
  type Mesh,
  type MeshMember,
  type MeshSpec,
  MeshSpecSchema,
  type NetworkService,
} from '#gen/longline/fleet/v1/network_service_pb.js';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { meshesTopic } from '../bus/topics.ts';
import { type NextMesh, nextMesh, sameSpec } from '../mesh/mesh-change.ts';
import type { MeshChange, MeshMemberRecord, MeshState } from '../store/mesh.ts';
import { agentIdViolations, requireAgent } from './agent-lookup.ts';
import { shapeMesh } from './mesh-spec-shape.ts';
import { askedMembers, meshView } from './mesh-views.ts';
import { checkInterface, networkNameViolations } from './network-methods.ts';
import { pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';

/** How often a change is made anew because somebody else was quicker. */
const MAX_ATTEMPTS = 32;

/** Members in one answer of ListMeshes, over all its meshes; a page ends early rather than grow past it. */
const MAX_LISTED_MEMBERS = 10_000;

type MeshMethods = Pick<
  ServiceImpl<typeof NetworkService>,
  'putMesh' | 'getMesh' | 'listMeshes' | 'deleteMesh' | 'joinMesh' | 'leaveMesh'
>;

/** A mesh by its name; throws `invalid` for what is no name and `not_found`. */
async function findMesh({ store }: ServiceDependencies, name: string, field: string): Promise<MeshState> {
  const violations = networkNameViolations(name, field);
  if (violations.length > 0) throw invalid(violations);
  const state = await store.meshes.get(name);
  if (state === undefined) throw new LonglineError('not_found', `no mesh has name ${name}`);
  return state;
}

/** As `findMesh`, for one that is to be changed: throws `wrong_state` once it is being removed. */
export async function changeableMesh(needs: ServiceDependencies, name: string, field: string): Promise<MeshState> {
  const state = await findMesh(needs, name, field);
  if (state.mesh.removing)
    throw new LonglineError('wrong_state', `mesh ${name} is being removed; wait until it is gone`);
  return state;
}

/** Makes a change against what was read, anew for as long as somebody else is quicker. */
export async function retried<T>(name: string, attempt: () => Promise<T | undefined>): Promise<T> {
  for (let left = MAX_ATTEMPTS; left > 0; left--) {
    const done = await attempt();
    if (done !== undefined) return done;
  }
  throw new LonglineError('unavailable', `mesh ${name} changes too fast; try again`);
}

/** Stores a change of a mesh and tells of it; false if somebody else was quicker. */
export async function commitMesh({ store, bus }: ServiceDependencies, change: MeshChange): Promise<boolean> {
  const outcome = await store.meshes.commit(change);
  if (outcome.kind === 'conflict') return false;
  bus.publish(meshesTopic, { mesh: change.name });
  return true;
}

async function shownMesh(needs: ServiceDependencies, name: string): Promise<Mesh> {
  const state = await findMesh(needs, name, 'name');
  return meshView(state, await needs.store.networks.memberFacts(name));
}

/** What is shown of a mesh that isn't there yet. */
const EMPTY_MESH = {
  name: '',
  spec: new Uint8Array(),
  revision: 0,
  layout: 0,
  createdAtMs: 0,
  updatedAtMs: 0,
  removing: false,
};

/** How a mesh is asked for. */
interface MeshRequest {
  readonly spec: MeshSpec;
  /** Where the spec, and its member of a number, lie in the request. */
  readonly path: string;
  readonly memberPath: (place: number) => string;
  readonly validateOnly: boolean;
}

interface PutAnswer {
  readonly mesh: Mesh;
  readonly changed: boolean;
}

/** One attempt to make a mesh be so; undefined if somebody else was quicker. */
async function put(needs: ServiceDependencies, request: MeshRequest): Promise<PutAnswer | undefined> {
  const { store, clock } = needs;
  const { spec, members: asked, violations } = shapeMesh(request.spec, request.path, request.memberPath);
  if (violations.length > 0) throw invalid(violations);
  const { name } = spec;
  const state = await store.meshes.get(name);
  if (state?.mesh.removing) {
    throw new LonglineError('wrong_state', `mesh ${name} is being removed; wait until it is gone`);
  }
  const before = state && { state, spec: fromBinary(MeshSpecSchema, state.mesh.spec) };
  const places = new Map(asked.map(({ agentId }, place) => [agentId, place]));
  const next = nextMesh(spec, asked, before, (agentId) => request.memberPath(places.get(agentId)!));
  await checkAgents(needs, spec, before?.spec, next, state);
  const newSpec = before === undefined || !sameSpec(before.spec, spec);
  const changed = newSpec || next.changed.length > 0;
  if (request.validateOnly) return { mesh: preview(needs, spec, state, next.members), changed };
  if (changed) {
    const change = {
      name,
      baseRevision: state?.mesh.revision ?? 0,
      nowMs: clock.now(),
      newLayout: true,
      asked: true,
      spec: toBinary(MeshSpecSchema, spec),
      putMembers: next.changed,
      removedResting: next.removedResting,
    };
    if (!(await commitMesh(needs, change))) return undefined;
  }
  return { mesh: await shownMesh(needs, name), changed };
}

/** The mesh as it would be. */
function preview(
  { clock }: ServiceDependencies,
  spec: MeshSpec,
  state: MeshState | undefined,
  members: readonly MeshMemberRecord[],
): Mesh {
  const nowMs = clock.now();
  const mesh = state?.mesh ?? { ...EMPTY_MESH, name: spec.name, createdAtMs: nowMs, updatedAtMs: nowMs };
  return meshView({ mesh: { ...mesh, spec: toBinary(MeshSpecSchema, spec) }, members, resting: [], rotations: [] }, []);
}

/** Who joins has to be there, and nothing of its own may be in the way. */
async function checkAgents(
  { store }: ServiceDependencies,
  spec: MeshSpec,
  before: MeshSpec | undefined,
  { members }: NextMesh,
  state: MeshState | undefined,
): Promise<void> {
  const stays = new Set(state?.members.filter(({ leaving }) => !leaving).map(({ agentId }) => agentId));
  const moved = before !== undefined && before.interface !== spec.interface;
  for (const { agentId, leaving } of members) {
    if (leaving || (stays.has(agentId) && !moved)) continue;
    if (!stays.has(agentId)) await requireAgent(store, agentId);
    const networks = await store.networks.ofAgent(agentId);
    const own = networks.find(({ mesh, name, removing }) => name === spec.name && mesh !== spec.name && !removing);
    if (own !== undefined) {
      const message = `agent ${agentId} has a network ${own.name} of its own; remove it, or take another name`;
      throw new LonglineError('already_exists', message);
    }
    checkInterface(agentId, spec.name, spec.interface, networks);
    await checkOtherMeshes(store, agentId, spec);
  }
}

/** A mesh that isn't brought about yet has no networks that would be in the way. */
async function checkOtherMeshes(store: ServiceDependencies['store'], agentId: string, spec: MeshSpec): Promise<void> {
  for (const name of await store.meshes.ofAgent(agentId)) {
    const other = name === spec.name ? undefined : await store.meshes.get(name);
    if (other === undefined || fromBinary(MeshSpecSchema, other.mesh.spec).interface !== spec.interface) continue;
    if (other.members.some((member) => member.agentId === agentId && member.leaving)) continue;
    const message = `interface ${spec.interface} of agent ${agentId} is that of mesh ${name}; take another`;
    throw new LonglineError('already_exists', message);
  }
}

/** Changes the members of a mesh that is there. */
async function putMembers(
  needs: ServiceDependencies,
  name: string,
  change: (members: readonly MeshMember[]) => MeshMember[],
): Promise<Mesh> {
  return await retried(name, async () => {
    const state = await changeableMesh(needs, name, 'mesh');
    const spec = clone(MeshSpecSchema, fromBinary(MeshSpecSchema, state.mesh.spec));
    spec.members = change(askedMembers(state.members));
    const request = { spec, path: 'mesh', memberPath: () => 'member', validateOnly: false };
    return (await put(needs, request))?.mesh;
  });
}

async function removeMesh(needs: ServiceDependencies, name: string): Promise<Mesh> {
  return await retried(name, async () => {
    const { mesh, members } = await findMesh(needs, name, 'name');
    const putMembers = members.filter(({ leaving }) => !leaving).map((member) => ({ ...member, leaving: true }));
    const base = { name, baseRevision: mesh.revision, nowMs: needs.clock.now(), newLayout: true, asked: true };
    const shown = meshView({ mesh: { ...mesh, removing: true }, members, resting: [], rotations: [] }, []);
    if (mesh.removing) return await shownMesh(needs, name);
    return (await commitMesh(needs, { ...base, removing: true, putMembers })) ? shown : undefined;
  });
}

/** Meshes over the store. */
export function meshMethods(needs: ServiceDependencies): MeshMethods {
  const { store } = needs;
  return {
    async putMesh({ spec, validateOnly }) {
      if (spec === undefined) throw invalid([{ field: 'spec', description: 'is missing' }]);
      const request = { spec, path: 'spec', memberPath: (place: number) => `spec.members[${place}]`, validateOnly };
      return await retried(spec.name, () => put(needs, request));
    },

    async getMesh({ name }) {
      return { mesh: await shownMesh(needs, name) };
    },

    async listMeshes(request) {
      const page = pageQuery(request);
      const found = await store.meshes.list(page);
      const meshes: Mesh[] = [];
      let members = 0;
      for (const [place, name] of found.items.entries()) {
        const state = await store.meshes.get(name);
        if (state === undefined) continue;
        members += state.members.length;
        if (place > 0 && members > MAX_LISTED_MEMBERS) {
          const { nextPageToken } = await store.meshes.list({ ...page, pageSize: place });
          return { meshes, nextPageToken };
        }
        meshes.push(meshView(state, await store.networks.memberFacts(name)));
      }
      return { meshes, nextPageToken: found.nextPageToken };
    },

    async deleteMesh({ name }) {
      return { mesh: await removeMesh(needs, name) };
    },

    async joinMesh({ mesh, member }) {
      if (member === undefined) throw invalid([{ field: 'member', description: 'is missing' }]);
      const others = (members: readonly MeshMember[]) => members.filter(({ agentId }) => agentId !== member.agentId);
      return { mesh: await putMembers(needs, mesh, (members) => [...others(members), member]) };
    },

    async leaveMesh({ agentId, mesh }) {
      const violations: readonly FieldViolation[] = agentIdViolations(agentId, 'agent_id');
      if (violations.length > 0) throw invalid(violations);
      return {
        mesh: await putMembers(needs, mesh, (members) => {
          const others = members.filter((member) => member.agentId !== agentId);
          if (others.length < members.length) return others;
          throw new LonglineError('not_found', `agent ${agentId} is no member of mesh ${mesh}`);
        }),
      };
    },
  };
}

// The methods of NetworkService for rotations of keys. Each stores what is asked for; the mesh driver takes the steps.
import type { ServiceImpl } from '@connectrpc/connect';
import type { NetworkService, Rotation } from '#gen/longline/fleet/v1/network_service_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import { isUuid, newId } from '../../core/ids.ts';
import { queuedRotation, undone } from '../mesh/key-rotation.ts';
import type { MeshMemberRecord, MeshState } from '../store/mesh.ts';
import { agentIdViolations } from './agent-lookup.ts';
import { changeableMesh, commitMesh, retried } from './mesh-methods.ts';
import { rotationView } from './mesh-views.ts';
import { networkNameViolations } from './network-methods.ts';
import { pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { shown } from './shape.ts';

type RotationMethods = Pick<ServiceImpl<typeof NetworkService>, 'rotateKey' | 'undoRotation' | 'listRotations'>;

/** Members whose keys are to be replaced: one, or all that have one. */
function concerned({ mesh, members }: MeshState, agentId: string): readonly MeshMemberRecord[] {
  const present = members.filter(({ leaving }) => !leaving);
  if (agentId === '') return present.filter(({ publicKey }) => publicKey !== '');
  const member = present.find((one) => one.agentId === agentId);
  if (member === undefined) throw new LonglineError('not_found', `agent ${agentId} is no member of mesh ${mesh.name}`);
  if (member.publicKey !== '') return [member];
  throw new LonglineError('wrong_state', `agent ${agentId} has not told its key yet; there is none to replace`);
}

async function rotate(needs: ServiceDependencies, name: string, agentId: string): Promise<Rotation[]> {
  return await retried(name, async () => {
    const state = await changeableMesh(needs, name, 'mesh');
    const nowMs = needs.clock.now();
    const open = new Map(state.rotations.map((rotation) => [rotation.agentId, rotation]));
    const members = concerned(state, agentId);
    const begun = members
      .filter((member) => !open.has(member.agentId))
      .map((member) => queuedRotation(newId(nowMs), name, member, nowMs));
    for (const rotation of begun) open.set(rotation.agentId, rotation);
    const change = { name, baseRevision: state.mesh.revision, nowMs, newLayout: false, asked: false };
    if (begun.length > 0 && !(await commitMesh(needs, { ...change, putRotations: begun }))) return undefined;
    return members.map((member) => rotationView(open.get(member.agentId)!));
  });
}

async function undo(needs: ServiceDependencies, id: string): Promise<Rotation> {
  const missing = (): LonglineError => new LonglineError('not_found', `no rotation has id ${id}`);
  return await retried(id, async () => {
    const record = await needs.store.meshes.getRotation(id);
    const state = record && (await needs.store.meshes.get(record.mesh));
    // Read again with its mesh, so that the revision is that of what is changed.
    const rotation = state?.rotations.find((one) => one.id === id) ?? record;
    if (state === undefined || rotation === undefined) throw missing();
    if (rotation.undoing) return rotationView(rotation);
    const after = undone(rotation, needs.clock.now());
    if (after === undefined) {
      const which = `rotation ${id} of agent ${rotation.agentId}`;
      const why = rotation.step === 'done' ? 'is over' : 'is past the point: peers have begun to forget the old key';
      throw new LonglineError('wrong_state', `${which} ${why}; rotate again instead`);
    }
    const { name, revision: baseRevision } = state.mesh;
    const change = { name, baseRevision, nowMs: needs.clock.now(), newLayout: true, asked: false };
    return (await commitMesh(needs, { ...change, putRotations: [after] })) ? rotationView(after) : undefined;
  });
}

/** Rotations over the store. */
export function rotationMethods(needs: ServiceDependencies): RotationMethods {
  return {
    async rotateKey({ agentId, mesh }) {
      const violations = agentId === '' ? [] : agentIdViolations(agentId, 'agent_id');
      if (violations.length > 0) throw invalid(violations);
      return { rotations: await rotate(needs, mesh, agentId) };
    },

    async undoRotation({ id }) {
      if (!isUuid(id)) throw invalid([{ field: 'id', description: `${shown(id)} must be the id of a rotation` }]);
      return { rotation: await undo(needs, id) };
    },

    async listRotations(request) {
      const { active, mesh } = request;
      const violations = mesh === '' ? [] : networkNameViolations(mesh, 'mesh');
      if (violations.length > 0) throw invalid(violations);
      const { items, nextPageToken } = await needs.store.meshes.listRotations({ mesh, active, ...pageQuery(request) });
      return { rotations: items.map(rotationView), nextPageToken };
    },
  };
}

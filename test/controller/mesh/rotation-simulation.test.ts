// Rotations of keys while agents are late, away, join and leave, and while what drives them is killed at any point: at every
// instant every member has the key of every other among its peers, and the other's prefixes at one of that one's keys.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { activeRotation, queuedRotation, undone } from '../../../src/controller/mesh/key-rotation.ts';
import { faultSeeds, seededRandom } from '../../fixtures/seeded-random.ts';
import { actualKey, asked, keyOf, MeshModel, type ModelAgent, meshSpec } from './mesh-model.ts';

const IDS = ['a', 'b', 'c', 'd'];

const peersNamed = ({ has }: ModelAgent, id: string) => has?.spec?.peers.filter(({ name }) => name === id) ?? [];

/** What a packet from one member to another needs at both. */
function checkPairs(model: MeshModel, seed: number): void {
  for (const one of model.agents.values()) {
    for (const other of model.agents.values()) {
      const key = actualKey(other);
      const peers = peersNamed(one, other.id);
      // Who left is not kept in the picture, even if it hasn't heard of that yet: the others have forgotten it.
      if (one === other || key === undefined || peers.length === 0 || peersNamed(other, one.id).length === 0) continue;
      const what = `seed ${seed}: ${one.id} about ${other.id}, ${activeRotation(model.state.rotations)?.step}`;
      assert.ok(
        peers.some(({ publicKey }) => publicKey === key),
        `${what}: knows its key`,
      );
      assert.equal(peers.filter(({ allowedIps }) => allowedIps.length > 0).length, 1, `${what}: one has its prefixes`);
    }
  }
}

function begin(model: MeshModel, agentId: string): void {
  const member = model.state.members.find((one) => one.agentId === agentId && !one.leaving && one.publicKey !== '');
  if (member === undefined || model.state.rotations.some((one) => one.agentId === agentId)) return;
  const id = `r${model.state.mesh.revision}`;
  model.change({ newLayout: false, putRotations: [queuedRotation(id, 'm', member, model.nowMs)] });
}

function undoActive(model: MeshModel): void {
  const rotation = activeRotation(model.state.rotations);
  const after = rotation && undone(rotation, model.nowMs);
  if (after !== undefined) model.change({ newLayout: true, putRotations: [after] });
}

/** One thing that happens. */
function happen(model: MeshModel, random: () => number): void {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const chance = random();
  const id = pick(IDS);
  if (chance < 0.35) model.apply(id);
  else if (chance < 0.65) model.tell(id);
  else if (chance < 0.72) begin(model, id);
  else if (chance < 0.74) undoActive(model);
  else if (chance < 0.76) model.put(IDS.filter(() => random() < 0.85).map((one) => asked(one)));
  // Killed while agents are asked: who comes next begins anew.
  else if (model.sync(random() < 0.3 ? Math.floor(random() * IDS.length) : undefined)) model.progress();
}

describe('rotation of keys in a mesh', () => {
  it('leaves nobody without the key that another one has, whatever happens in between', () => {
    let rotated = 0;
    for (const seed of faultSeeds(60)) {
      const random = seededRandom(seed);
      const model = new MeshModel(meshSpec());
      model.put(IDS.map((id) => asked(id)));
      model.settle();
      for (let turn = 0; turn < 250; turn++) {
        happen(model, random);
        checkPairs(model, seed);
      }
      model.put(IDS.map((id) => asked(id)));
      model.settle();
      checkPairs(model, seed);
      assert.deepEqual(model.state.rotations, [], `seed ${seed}: all are over`);
      for (const { agentId, keyEpoch, publicKey } of model.state.members) {
        assert.equal(publicKey, keyOf(agentId, keyEpoch));
        const { spec } = model.agents.get(agentId)!.has!;
        assert.deepEqual(
          [spec!.keyEpoch, spec!.nextKeyEpoch],
          [keyEpoch, keyEpoch],
          `seed ${seed}: no key is left over`,
        );
        assert.deepEqual(
          spec!.peers.map(({ name }) => name).sort(),
          IDS.filter((id) => id !== agentId),
        );
        rotated += keyEpoch;
      }
    }
    assert.ok(rotated > 60, 'keys were replaced at all');
  });
});

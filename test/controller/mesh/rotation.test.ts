import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  acknowledge,
  beginRotation,
  dropPeer,
  type HostKey,
  hostKey,
  keysAtPeers,
  type Rotation,
  undoRotation,
} from '../../../src/controller/mesh/rotation.ts';

const begin = (...peers: string[]) => beginRotation('hub', 'old', 'new', peers);

/** Everybody does what is asked. */
function finishStep(rotation: Rotation): Rotation {
  const { step, waitingFor } = rotation;
  if (step === 'done') return rotation;
  return waitingFor.reduce((state, member) => acknowledge(state, step, member), rotation);
}

const shown = (rotation: Rotation) => {
  const keys = keysAtPeers(rotation).map(({ publicKey, hasPrefixes }) => `${publicKey}${hasPrefixes ? '+' : ''}`);
  return `${rotation.step}: host ${hostKey(rotation)}, peers ${keys.join(' ')}`;
};

describe('rotation of a key', () => {
  it('stages, switches, moves and removes, each when all have done the one before', () => {
    const states = [begin('a', 'b')];
    while (states.at(-1)!.step !== 'done') states.push(finishStep(states.at(-1)!));
    assert.deepEqual(states.map(shown), [
      'stage: host old, peers old+ new',
      'switch: host new, peers old+ new',
      'move: host new, peers old new+',
      'remove: host new, peers new+',
      'done: host new, peers new+',
    ]);
    const half = acknowledge(begin('a', 'b'), 'stage', 'a');
    assert.deepEqual([half.step, half.waitingFor], ['stage', ['b']]);
    assert.equal(acknowledge(half, 'stage', 'a'), half, 'said twice');
    assert.equal(acknowledge(half, 'move', 'b'), half, 'of another step');
    assert.equal(dropPeer(half, 'b').step, 'switch', 'a lost peer is not waited for');
    assert.equal(begin().step, 'switch', 'nobody has to be told');
  });

  it('goes back the way it came, up to the removal of the old key', () => {
    const moving = finishStep(finishStep(begin('a')));
    const states = [undoRotation(moving)!];
    while (states.at(-1)!.step !== 'done') states.push(finishStep(states.at(-1)!));
    assert.deepEqual(states.map(shown), [
      'move: host new, peers old+ new',
      'switch: host old, peers old+ new',
      'stage: host old, peers old+',
      'done: host old, peers old+',
    ]);
    assert.equal(undoRotation(finishStep(moving)), undefined);
    assert.throws(() => beginRotation('hub', 'old', 'old', []), RangeError);
  });

  it('never leaves a peer without the key that the host has, whoever is late, and ends however often it is interrupted', () => {
    const peers = ['a', 'b', 'c'];
    fc.assert(
      fc.property(fc.array(fc.nat(4), { maxLength: 40 }), fc.nat(40), (order, undoAt) => {
        let rotation = begin(...peers);
        let host = 'old';
        const at = new Map<string, readonly HostKey[]>(
          peers.map((peer) => [peer, [{ publicKey: 'old', hasPrefixes: true }]]),
        );
        const act = (member: string) => {
          const { step } = rotation;
          if (step === 'done' || !rotation.waitingFor.includes(member)) return;
          if (member === 'hub') host = hostKey(rotation);
          else at.set(member, keysAtPeers(rotation));
          // Stored and read again between any two steps.
          rotation = JSON.parse(JSON.stringify(acknowledge(rotation, step, member)));
          for (const keys of at.values()) {
            assert.ok(keys.some(({ publicKey }) => publicKey === host));
            assert.equal(keys.filter(({ hasPrefixes }) => hasPrefixes).length, 1);
          }
        };
        for (const [turn, member] of order.entries()) {
          if (turn === undoAt) rotation = undoRotation(rotation) ?? rotation;
          act(['hub', ...peers][member] ?? 'nobody');
        }
        while (rotation.step !== 'done') act(rotation.waitingFor[0]!);
        const key = rotation.direction === 'forward' ? 'new' : 'old';
        assert.equal(host, key);
        for (const keys of at.values()) assert.deepEqual(keys, [{ publicKey: key, hasPrefixes: true }]);
      }),
    );
  });
});

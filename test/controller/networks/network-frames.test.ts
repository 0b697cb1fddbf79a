import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { type NetworkDesiredState, NetworkDesiredStateSchema, type NetworkSpec } from '#gen/longline/v1/network_pb.js';
import {
  framesOf,
  type NetworkFrames,
  parseState,
  specBytes,
  stateBytes,
  stateDelta,
} from '../../../src/controller/networks/network-frames.ts';
import { NETWORK_STATE } from '../../../src/controller/states/network-state-body.ts';
import { faultSeeds, seededRandom } from '../../fixtures/seeded-random.ts';

const { apply, decode, diff, encode, encodeDelta } = NETWORK_STATE;

function stateOf(random: () => number): NetworkDesiredState {
  const pick = (most: number) => Math.floor(random() * most);
  const networks = ['b', 'a', 'aa', 'd']
    .filter(() => random() < 0.6)
    .map((name) => ({
      name,
      interface: random() < 0.5 ? '' : `wg${pick(3)}`,
      addresses: Array.from({ length: pick(3) }, (_, place) => `10.0.${place}.${pick(3)}/24`),
      keyEpoch: pick(2) * 300,
      routes: random() < 0.3 ? ['10.9.0.0/16'] : [],
      adoptInterface: random() < 0.2,
      peers: [...new Set(Array.from({ length: pick(9) }, () => pick(12)))].map((key) => ({
        name: random() < 0.5 ? '' : `peer ${key}`,
        publicKey: Buffer.alloc(32, key + 1).toString('base64'),
        allowedIps: Array.from({ length: pick(3) }, () => `10.1.${pick(3)}.0/24`),
        persistentKeepaliveSecs: pick(2) * 25,
      })),
    }));
  return create(NetworkDesiredStateSchema, { networks });
}

const framed = ({ networks }: NetworkDesiredState): NetworkFrames[] => networks.map(framesOf);

describe('networks as pieces of their bytes', () => {
  it('are, put together, what the canonical form is, and come apart again', () => {
    for (const seed of faultSeeds(300)) {
      const state = stateOf(seededRandom(seed));
      const bytes = stateBytes(framed(state));
      assert.deepEqual(Buffer.from(bytes), Buffer.from(encode(state)), `seed ${seed}`);
      assert.deepEqual(Buffer.from(stateBytes(parseState(bytes))), Buffer.from(bytes), `seed ${seed}`);
      const first = (decode(bytes).networks as NetworkSpec[])[0];
      if (first !== undefined)
        assert.deepEqual(Buffer.from(specBytes(parseState(bytes)[0]!)), Buffer.from(specBytes(framesOf(first))));
    }
  });

  it('give the same deltas as messages do', () => {
    for (const seed of faultSeeds(300)) {
      const random = seededRandom(seed);
      const [from, to] = [decode(encode(stateOf(random))), decode(encode(stateOf(random)))];
      const delta = stateDelta(parseState(encode(from)), parseState(encode(to)));
      assert.deepEqual(encode(apply(from, decode(delta))), encode(to), `seed ${seed}`);
      assert.equal(delta.length, encodeDelta(diff(from, to)).length, `seed ${seed}`);
    }
  });
});

// Controller and agent compute what is wanted each for itself, and compare digests: from any full state and any delta both have
// to come to the same bytes, also over a restart of the agent in between.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { type NetworkDesiredState, NetworkDesiredStateSchema } from '#gen/longline/v1/network_pb.js';
import { NETWORK_FORM } from '../../src/capabilities/network/desired.ts';
import { parseState, stateBytes, stateDelta } from '../../src/controller/networks/network-frames.ts';
import { NETWORK_STATE } from '../../src/controller/states/network-state-body.ts';
import { bodyDigest } from '../../src/controller/states/state-body.ts';
import type { StateStore } from '../../src/core/capability.ts';
import { HeldState } from '../../src/core/held-state.ts';
import { faultSeeds, seededRandom } from '../fixtures/seeded-random.ts';

const GENERATIONS = 30;

function memoryStore(): StateStore {
  const facts = new Map<string, Uint8Array>();
  return {
    get: async (key) => facts.get(key),
    put: async (key, value) => void facts.set(key, value),
    delete: async (key) => void facts.delete(key),
    list: async (prefix) => [...facts.keys()].filter((key) => key.startsWith(prefix)).sort(),
  };
}

function anyState(random: () => number): NetworkDesiredState {
  const pick = (most: number) => Math.floor(random() * most);
  const peers = () => {
    const numbers = new Set(Array.from({ length: pick(8) }, () => pick(12)));
    return [...numbers].map((number) => ({
      publicKey: Buffer.alloc(32, number + 1).toString('base64'),
      allowedIps: [`10.0.${number}.${pick(3)}/32`],
      persistentKeepaliveSecs: pick(2) * 25,
    }));
  };
  const names = ['b', 'a', 'aa'].filter(() => random() < 0.7);
  const networks = names.map((name) => ({ name, interface: `wg-${name}`, mtu: 1280 + pick(2), peers: peers() }));
  return create(NetworkDesiredStateSchema, { networks });
}

describe('what is wanted of a host', () => {
  it('is the same for its controller and for itself, generation after generation', async () => {
    const { encode, decode, diff, encodeDelta } = NETWORK_STATE;
    for (const seed of faultSeeds(20)) {
      const random = seededRandom(seed);
      const store = memoryStore();
      let host = new HeldState(store, NETWORK_FORM);
      await host.load();
      let before = NETWORK_STATE.empty();
      for (let generation = 1n; generation <= GENERATIONS; generation++) {
        const wanted = anyState(random);
        const full = generation === 1n || random() < 0.2;
        const body = full ? encode(wanted) : encodeDelta(diff(decode(encode(before)), wanted));
        await host.take({ generation, baseGeneration: full ? 0n : generation - 1n, body });
        if (random() < 0.2) {
          host = new HeldState(store, NETWORK_FORM);
          await host.load();
        }
        const at = `seed ${seed}, generation ${generation}`;
        assert.equal(host.held?.generation, generation, at);
        assert.deepEqual([...host.held.digest], [...bodyDigest(encode(wanted))], at);
        const frames = parseState(encode(wanted));
        assert.deepEqual(stateBytes(frames), encode(wanted), at);
        const back = decode(stateDelta(frames, parseState(encode(before))));
        assert.deepEqual(encode(NETWORK_STATE.apply(wanted, back)), encode(before), at);
        before = wanted;
      }
    }
  });
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  type NetworkDesiredState,
  NetworkDesiredStateSchema,
  type NetworkPeer,
  NetworkPeerSchema,
  type NetworkSpec,
  NetworkSpecSchema,
} from '#gen/longline/v1/network_pb.js';
import { NETWORK_STATE } from '../../../src/controller/states/network-state-body.ts';
import { bodyDigest } from '../../../src/controller/states/state-body.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { faultSeeds, seededRandom } from '../../fixtures/seeded-random.ts';

type Random = () => number;
const pick = (random: Random, most: number) => Math.floor(random() * most);

function peer(random: Random): NetworkPeer {
  const publicKey = Buffer.alloc(32, pick(random, 12)).toString('base64');
  const allowedIps = Array.from({ length: pick(random, 3) }, () => `10.0.${pick(random, 3)}.0/24`);
  return create(NetworkPeerSchema, { publicKey, allowedIps, persistentKeepaliveSecs: pick(random, 2) });
}

function network(random: Random, name: string): NetworkSpec {
  const peers = new Map(Array.from({ length: pick(random, 9) }, () => peer(random)).map((one) => [one.publicKey, one]));
  return create(NetworkSpecSchema, { name, interface: name, mtu: pick(random, 3), peers: [...peers.values()] });
}

function state(random: Random): NetworkDesiredState {
  const names = ['b', 'a', 'aa', 'c'].filter(() => random() < 0.6);
  return create(NetworkDesiredStateSchema, { networks: names.map((name) => network(random, name)) });
}

function delta(init: Parameters<typeof create<typeof NetworkDesiredStateSchema>>[1]): NetworkDesiredState {
  return create(NetworkDesiredStateSchema, init);
}

const { encode, decode, diff, apply, encodeDelta } = NETWORK_STATE;

describe('a desired state of networks', () => {
  it('has one form, whatever the order it was written in', () => {
    const one = state(seededRandom(3));
    assert.ok(one.networks.length > 1 && one.networks.some(({ peers }) => peers.length > 1));
    const networks = one.networks.map((each) => ({ ...each, peers: each.peers.toReversed() })).toReversed();
    assert.deepEqual(encode(delta({ networks })), encode(one));
    assert.deepEqual(encode(decode(encode(one))), encode(one));
  });

  it('is told by a digest of 16 bytes over nothing but networks, in their order and without unknown fields', () => {
    const one = delta({ networks: [create(NetworkSpecSchema, { name: 'a' })], removedNetworks: ['x'] });
    one.networks[0]!.$unknown = [{ no: 999, wireType: 0, data: Uint8Array.of(1) }];
    const plain = delta({ networks: [{ name: 'a' }] });
    assert.deepEqual(encode(one), toBinary(NetworkDesiredStateSchema, plain));
    assert.equal(bodyDigest(encode(one)).length, 16);
  });

  it('is what a delta makes of any other', () => {
    for (const seed of faultSeeds(300)) {
      const random = seededRandom(seed);
      const [from, to] = [state(random), state(random)];
      const change = NETWORK_STATE.decode(encodeDelta(diff(from, to)));
      const made = apply(decode(encode(from)), change);
      assert.deepEqual(encode(made), encode(to), `seed ${seed}`);
      assert.equal(encodeDelta(diff(to, made)).length, 0, `seed ${seed}: nothing differs any more`);
      assert.deepEqual(encode(apply(made, change)), encode(to), `seed ${seed}: once more changes nothing`);
    }
  });

  it('is changed by no more than the peers that differ', () => {
    const random = seededRandom(1);
    const from = delta({ networks: [network(random, 'a'), network(random, 'b')] });
    const [a, b] = from.networks as [NetworkSpec, NetworkSpec];
    const [gone, ...kept] = b.peers as [NetworkPeer, ...NetworkPeer[]];
    const added = create(NetworkPeerSchema, { publicKey: Buffer.alloc(32, 99).toString('base64') });
    const to = delta({ networks: [a, { ...b, peers: [...kept, added] }] });
    assert.deepEqual(
      diff(from, to),
      delta({ peerDeltas: [{ network: 'b', put: [added], removed: [gone.publicKey] }] }),
    );
    const wider = delta({ networks: [{ ...a, mtu: 1400 }, b] });
    assert.deepEqual(
      diff(from, wider).networks.map(({ name }) => name),
      ['a'],
    );
  });

  it('refuses a delta that names something twice, or peers of a network that is not there', () => {
    const base = delta({ networks: [{ name: 'a' }] });
    const twice = { publicKey: 'k' };
    const refusals = (changes: readonly NetworkDesiredState[]) =>
      changes.map((change) => {
        try {
          apply(base, change);
        } catch (error) {
          assert.ok(error instanceof LonglineError);
          return [error.reason, error.violations.length];
        }
        return 'applied';
      });
    assert.deepEqual(
      refusals([
        delta({ networks: [{ name: 'b' }, { name: 'b' }] }),
        delta({ peerDeltas: [{ network: 'a' }, { network: 'a' }] }),
        delta({ peerDeltas: [{ network: 'a', put: [twice, twice] }] }),
      ]),
      Array(3).fill(['invalid', 1]),
    );
    // Made for another state than the one held: the full one would do.
    assert.deepEqual(
      refusals([
        delta({ peerDeltas: [{ network: 'b', removed: ['k'] }] }),
        delta({ removedNetworks: ['a'], peerDeltas: [{ network: 'a', removed: ['k'] }] }),
      ]),
      Array(2).fill(['stale', 0]),
    );
    assert.deepEqual(
      apply(base, delta({ removedNetworks: ['x'], peerDeltas: [{ network: 'a', removed: ['k'] }] })),
      base,
    );
  });
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { meshPools } from '../../../src/controller/mesh/allocation.ts';
import { Pool } from '../../../src/controller/mesh/pool.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { prefixesOverlap, splitPrefix } from '../../../src/core/network/prefix.ts';
import { asked, MeshModel, meshSpec } from './mesh-model.ts';

const slots = (pool: Pool): string[] => {
  const take = pool.taker(new Set(), new Map());
  const all: string[] = [];
  for (let slot = take(); slot !== undefined && all.length < 20; slot = take()) all.push(slot);
  return all;
};
const addresses = (prefix: string) => slots(Pool.ofAddresses(splitPrefix(prefix)!));

describe('pools', () => {
  it('leave out what is no address of a host', () => {
    assert.deepEqual(addresses('10.0.0.8/30'), ['10.0.0.9/32', '10.0.0.10/32']);
    assert.deepEqual(addresses('10.0.0.8/31'), ['10.0.0.8/32', '10.0.0.9/32']);
    assert.deepEqual(addresses('10.0.0.8/32'), ['10.0.0.8/32']);
    assert.deepEqual(addresses('fd42::/126'), ['fd42::1/128', 'fd42::2/128', 'fd42::3/128']);
    assert.deepEqual(addresses('fd42::/127'), ['fd42::/128', 'fd42::1/128']);
    assert.equal(Pool.ofAddresses(splitPrefix('fd42::/64')!).size, 2n ** 64n - 1n);
  });

  it('are cut into subnets', () => {
    assert.deepEqual(slots(Pool.ofSubnets(splitPrefix('10.2.0.0/23')!, 24)), ['10.2.0.0/24', '10.2.1.0/24']);
    const wide = Pool.ofSubnets(splitPrefix('fd42::/48')!, 64);
    assert.deepEqual(
      [wide.has('fd42:0:0:7::/64'), wide.has('fd42:1::/64'), wide.has('fd42::/63')],
      [true, false, false],
    );
  });

  it('give again what rests longest, once all else is taken', () => {
    const pool = Pool.ofAddresses(splitPrefix('10.0.0.0/29')!);
    const resting = new Map([
      ['10.0.0.1/32', 30],
      ['10.0.0.2/32', 20],
      ['10.0.0.9/32', 1],
    ]);
    const take = pool.taker(new Set(['10.0.0.4/32']), resting);
    const taken = Array.from({ length: 6 }, take);
    const expected = ['10.0.0.3/32', '10.0.0.5/32', '10.0.0.6/32', '10.0.0.2/32', '10.0.0.1/32', undefined];
    assert.deepEqual(taken, expected);
  });
});

describe('allocation', () => {
  const spec = meshSpec({ pool: '10.9.0.0/27', subnetPool: 'fd42::/56', subnetLength: 64 });
  const IDS = Array.from({ length: 14 }, (_, place) => `n${place}`);

  it('gives nothing twice, changes nothing for who stays, and gives who comes back soon what it had', () => {
    fc.assert(
      fc.property(fc.array(fc.subarray(IDS), { maxLength: 12 }), (steps) => {
        const model = new MeshModel(spec);
        const had = new Map<string, string>();
        for (const ids of steps) {
          const before = new Map(model.state.members.map((one) => [one.agentId, `${one.address} ${one.subnet}`]));
          model.put(ids.map((id) => asked(id)));
          const { members } = model.state;
          const { addresses: pool, subnets } = meshPools(spec);
          assert.equal(new Set(members.map(({ address }) => address)).size, members.length);
          for (const [place, { address, agentId, subnet }] of members.entries()) {
            assert.ok(pool.has(address) && subnets!.has(subnet));
            assert.ok(members.slice(place + 1).every((other) => !prefixesOverlap(other.subnet, subnet)));
            assert.equal(`${address} ${subnet}`, before.get(agentId) ?? had.get(agentId) ?? `${address} ${subnet}`);
            had.set(agentId, `${address} ${subnet}`);
          }
          model.settle();
        }
      }),
      { numRuns: 40 },
    );
  });

  it('says so when a pool is exhausted', () => {
    const model = new MeshModel(meshSpec({ pool: '10.9.0.0/30' }));
    model.put(['a', 'b'].map((id) => asked(id)));
    const full = (error: unknown) => {
      assert.ok(error instanceof LonglineError);
      return error.reason === 'limit' && !error.retryable && /all of its 2 addresses are taken/.test(error.message);
    };
    assert.throws(() => model.put(['a', 'b', 'c'].map((id) => asked(id))), full);
  });
});

describe('a change of a mesh', () => {
  it('changes one peer at each of the others when one joins or leaves', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8 }), fc.boolean(), (count, leaves) => {
        const model = new MeshModel(meshSpec());
        const ids = Array.from({ length: count + 1 }, (_, place) => `n${place}`);
        const [all, some] = [ids.map((id) => asked(id)), ids.slice(1).map((id) => asked(id))];
        model.put(leaves ? all : some);
        model.settle();
        const peers = (id: string) => model.agents.get(id)!.has!.spec!.peers.map((peer) => JSON.stringify(peer));
        const before = new Map(ids.slice(1).map((id) => [id, peers(id)]));
        model.put(leaves ? some : all);
        model.settle();
        for (const [id, kept] of before) {
          const now = peers(id);
          const [fewer, more] = leaves ? [now, kept] : [kept, now];
          assert.deepEqual(more.filter((peer) => !fewer.includes(peer)).length, 1);
          assert.ok(fewer.every((peer) => more.includes(peer)));
        }
      }),
      { numRuns: 20 },
    );
  });
});

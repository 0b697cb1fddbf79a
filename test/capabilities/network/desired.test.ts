import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { follow, NETWORK_FORM } from '../../../src/capabilities/network/desired.ts';
import {
  decodeDesiredState,
  encodeDesiredState,
  type NetworkDesiredState,
  specMessage,
} from '../../../src/capabilities/network/wire.ts';
import { HeldState } from '../../../src/core/held-state.ts';
import { MemoryState } from '../jobs/jobs-fixture.ts';
import { testKey, testSpec } from './network-fixture.ts';

type StateInit = Parameters<typeof encodeDesiredState>[0];
const state = (init: StateInit): NetworkDesiredState => decodeDesiredState(encodeDesiredState(init));
const full = (...names: string[]) => state({ networks: names.map((name) => specMessage(testSpec(name, [2, 1]))) });
const peer = (n: number) => ({ publicKey: testKey(n), allowedIps: [`10.9.${n}.0/24`] });

describe('what a controller wants', () => {
  it('is canonical: the same state has the same digest, in whatever order it came', () => {
    const one = follow(undefined, 1n, 0n, full('b', 'a'));
    const other = follow(undefined, 2n, 0n, full('a', 'b'));
    assert.deepEqual(one.digest, other.digest);
    assert.equal(one.digest.length, 16);
    assert.deepEqual(
      one.networks.map(({ name }) => name),
      ['a', 'b'],
    );
    assert.deepEqual(
      one.networks[0]!.peers.map(({ publicKey }) => publicKey),
      [testKey(1), testKey(2)],
    );
  });

  it('comes to the same by deltas as at once', () => {
    const first = follow(undefined, 1n, 0n, full('a', 'b'));
    const delta = state({
      networks: [specMessage(testSpec('c', [3]))],
      removedNetworks: ['b', 'never there'],
      peerDeltas: [{ network: 'a', put: [peer(5)], removed: [testKey(1), testKey(77)] }],
    });
    const second = follow(first, 2n, 1n, delta);
    const a = testSpec('a', [2]);
    const peers = [...a.peers!, peer(5)];
    const atOnce = follow(
      undefined,
      9n,
      0n,
      state({ networks: [specMessage(testSpec('c', [3])), specMessage({ ...a, peers })] }),
    );
    assert.deepEqual(second.digest, atOnce.digest);
  });

  it('is refused whole if it is old, builds on something else, or makes no sense', () => {
    const first = follow(undefined, 5n, 0n, full('a'));
    assert.throws(() => follow(first, 4n, 0n, full('a')), { reason: 'stale' });
    assert.throws(() => follow(first, 7n, 6n, state({})), { reason: 'stale', message: /full state/ });
    assert.throws(() => follow(first, 5n, 0n, full('b')), { reason: 'stale', message: /held already/ });
    assert.throws(() => follow(undefined, 1n, 0n, full('a', 'a')), { reason: 'invalid' });
    assert.throws(() => follow(undefined, 1n, 0n, state({ removedNetworks: ['a'] })), { reason: 'invalid' });
    const unknown = state({ peerDeltas: [{ network: 'x', put: [peer(1)] }] });
    assert.throws(() => follow(first, 6n, 5n, unknown), { reason: 'stale', message: /"x"/ });
    assert.equal(follow(first, 5n, 0n, full('a')).generation, 5n);
  });

  it('reads from the disk as it was, through hundreds of deltas', async () => {
    const store = new MemoryState();
    const held = new HeldState(store, NETWORK_FORM);
    await held.load();
    await held.take({ generation: 1n, baseGeneration: 0n, body: encodeDesiredState(full('a')) });
    for (let n = 2n; n < 300n; n++) {
      const [put, removed] = n % 2n === 0n ? [[peer(Number(n % 250n) + 1)], []] : [[], [testKey(Number(n % 250n))]];
      const body = encodeDesiredState({ peerDeltas: [{ network: 'a', put, removed }] });
      await held.take({ generation: n, baseGeneration: n - 1n, body });
      if (n % 37n !== 0n) continue;
      const again = new HeldState(store, NETWORK_FORM);
      await again.load();
      assert.deepEqual(again.held, held.held);
    }
    assert.ok(store.values.size < 299, 'deltas are folded into a new base');
  });
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PeerWatch } from '../../../src/capabilities/network/peer-watch.ts';
import type { FoundDevice, FoundPeer } from '../../../src/capabilities/network/ports.ts';
import { testKey } from './network-fixture.ts';

const KEY = testKey(1);
const HOUR_MS = 3_600_000;

function found(lastHandshakeMs: number | undefined): FoundDevice {
  const traffic = { keepaliveSecs: 25, receivedBytes: 1, sentBytes: 1, prefixes: new Set<string>() };
  const peer: FoundPeer = {
    ...{ publicKey: KEY, presharedKey: undefined, endpoint: '192.0.2.1:51820', lastHandshakeMs },
    ...traffic,
  };
  return { publicKey: undefined, listenPort: undefined, fwmark: 0, peers: new Map([[KEY, peer]]) };
}

describe('peers that are watched', () => {
  it('fare no otherwise when the clock of the host is set, forth or back', () => {
    for (const jumpMs of [HOUR_MS, -HOUR_MS]) {
      const watch = new PeerWatch();
      watch.look(found(1_000_000), 1_010_000, 10_000);
      assert.equal(watch.health(KEY), 'active');
      watch.look(found(1_000_000), 1_040_000 + jumpMs, 40_000);
      assert.equal(watch.health(KEY), 'active', `${jumpMs}`);
      watch.look(found(1_000_000), 1_140_000 + jumpMs, 140_000);
      assert.equal(watch.health(KEY), 'suspect', `${jumpMs}`);
      watch.look(found(1_000_000), 1_190_000 + jumpMs, 190_000);
      assert.equal(watch.health(KEY), 'stale', `${jumpMs}`);
      watch.look(found(1_195_000 + jumpMs), 1_200_000 + jumpMs, 200_000);
      assert.equal(watch.health(KEY), 'active', `${jumpMs}`);
      assert.deepEqual([watch.handshakes, watch.recoveries], [1, 1]);
    }
  });

  it('do not stay active by a handshake of the future, from before the clock was set back', () => {
    const watch = new PeerWatch();
    watch.look(found(HOUR_MS), 1_000, 0);
    assert.equal(watch.health(KEY), 'active');
    watch.look(found(HOUR_MS), 201_000, 200_000);
    assert.equal(watch.health(KEY), 'stale');
  });

  it('have no handshake counted that is only told anew', () => {
    const watch = new PeerWatch();
    for (const [place, jitterMs] of [0, 400, -300, 700].entries()) {
      watch.look(found(1_000_000 + jitterMs), 1_010_000 + 30_000 * place, 30_000 * place);
    }
    assert.equal(watch.handshakes, 0);
    watch.look(found(1_125_000), 1_130_000, 120_000);
    assert.equal(watch.handshakes, 1);
  });
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type PeerSigns, peerHealth } from '../../../src/capabilities/network/health.ts';

const NOW = 1_000_000_000;

function health(ageMs: number | undefined, more: Partial<PeerSigns> = {}) {
  const lastHandshakeMs = ageMs === undefined ? undefined : NOW - ageMs;
  const signs = { lastHandshakeMs, configuredMs: NOW, keepaliveSecs: 25, hasEndpoint: true, sending: false, ...more };
  return peerHealth(signs, NOW);
}

describe('health of a peer', () => {
  it('follows the age of the handshake by the timers of the protocol', () => {
    assert.deepEqual(
      [0, 134_999, 135_000, 179_999, 180_000].map((age) => health(age)),
      ['active', 'active', 'suspect', 'suspect', 'stale'],
    );
  });

  it('is idle and no fault where nothing is sent', () => {
    assert.equal(health(3_600_000, { keepaliveSecs: 0 }), 'idle');
    assert.equal(health(undefined, { keepaliveSecs: 0, configuredMs: 0 }), 'idle');
    assert.equal(health(undefined, { hasEndpoint: false, configuredMs: 0 }), 'idle', 'it has yet to come to us');
  });

  it('is in trouble where packets are sent and no handshake answers', () => {
    assert.equal(health(150_000, { keepaliveSecs: 0, sending: true }), 'suspect');
    assert.equal(health(200_000, { keepaliveSecs: 0, sending: true }), 'stale');
    assert.equal(health(undefined), 'idle', 'its first handshake may be under way');
    assert.equal(health(undefined, { configuredMs: NOW - 15_000 }), 'suspect');
    assert.equal(health(undefined, { configuredMs: NOW - 180_000 }), 'stale');
  });
});

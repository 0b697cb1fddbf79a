// What a change of WireGuard's configuration costs those who use the tunnel, counted with a real one: nothing.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { wireguardMissing } from '../fixtures/netns.ts';
import { Flow } from '../fixtures/traffic.ts';
import { newKey, peerOf, silentPeer, TunnelPair } from '../fixtures/tunnel-pair.ts';

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, place) => silentPeer(from + place));

describe('traffic through a tunnel', { skip: wireguardMissing() ?? false }, () => {
  it('loses no packet while other peers come and go and their prefixes move', async () => {
    await using pair = await TunnelPair.create(300);
    const { far, near } = pair;
    await using flow = await Flow.start(near.host, far.host, far.address);
    for (let round = 1; round <= 5; round++) {
      const peers = range(round * 50, 300 + round * 50);
      // Of two neighbours one takes the prefix of the other.
      const [first, second, ...rest] = peers;
      const moved = [
        { ...first!, prefixes: new Set<string>() },
        { ...second!, prefixes: first!.prefixes },
      ];
      const { change } = await near.reconcile(near.wanted([pair.farPeer(), ...moved, ...rest]), round % 2 === 0);
      assert.ok(change.peers.length >= 100);
      assert.ok(
        !change.peers.some(({ publicKey }) => publicKey === far.key.publicKey()),
        'the kept peer is not touched',
      );
      await flow.passed(50);
    }
    assert.equal((await flow.stop()).lost, 0);
  });

  it('loses no packet in either direction while a host changes its key, though its peers know its address only by use', async () => {
    await using pair = await TunnelPair.create();
    const { far, near } = pair;
    await using there = await Flow.start(near.host, far.host, far.address);
    await using back = await Flow.start(far.host, near.host, near.address);
    for (let round = 0; round < 3; round++) {
      const before = near.key.publicKey();
      near.key = newKey();
      const trusting = round > 0;
      await near.reconcile(near.wanted([pair.farPeer()]), trusting);
      // The host has greeted its peer in vain by then. Two greetings that cross cost 5 s, as each side drops its own.
      await there.attempted(5);
      const retired = peerOf(before, {});
      await far.reconcile(far.wanted([retired, pair.nearPeer()]), trusting);
      await far.reconcile(far.wanted([pair.nearPeer()]));
      await Promise.all([there.passed(50), back.passed(50)]);
    }
    assert.deepEqual([(await there.stop()).lost, (await back.stop()).lost], [0, 0]);
  });

  it('goes on from a new address and port of a host, which no later change overwrites', async () => {
    await using pair = await TunnelPair.create();
    const { far, near } = pair;
    const known = { ...pair.nearPeer(), endpoint: near.endpoint };
    await far.reconcile(far.wanted([known]));
    await using flow = await Flow.start(near.host, far.host, far.address);
    await near.host.moveTo('192.0.2.50');
    // Another port has wireguard-go open its socket anew; by itself it notices after 15 s that its old address is gone.
    await near.reconcile({ ...near.wanted([pair.farPeer()]), listenPort: 51_999 });
    await flow.passed(100);
    await far.reconcile(far.wanted([known, silentPeer(1)]));
    const found = (await far.daemon.device.read()).peers.get(near.key.publicKey());
    assert.equal(found?.endpoint, '192.0.2.50:51999');
    await flow.passed(50);
  });
});

// What every WireGuard behind the port has to do, whichever it is: run against the real one and against the fake.
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import fc from 'fast-check';
import type { PeerState, WantedDevice } from '../../../src/capabilities/network/device.ts';
import { isEmptyChange, planDevice } from '../../../src/capabilities/network/plan.ts';
import type { WireguardDevice } from '../../../src/capabilities/network/ports.ts';
import { reconcile } from '../../../src/capabilities/network/reconcile.ts';
import { SecretKey } from '../../../src/core/wireguard-keys.ts';

/** An interface that nothing was written to, and its end. */
export interface OpenDevice extends AsyncDisposable {
  readonly device: WireguardDevice;
}

const key = (n: number) => Buffer.alloc(32, n).toString('base64');
const secret = (n: number) => SecretKey.parse(key(n))!;
const NONE = { writtenEndpoints: new Map<string, string>() };

/** A peer that lacks nothing. */
export function contractPeer(n: number, more: Partial<PeerState> = {}): PeerState {
  const prefixes = new Set([`10.0.${n}.0/24`, `fd42:${n}::/48`]);
  const rest = { presharedKey: secret(100 + n), endpoint: `127.0.0.1:${40_000 + n}`, keepaliveSecs: 0, prefixes };
  return { publicKey: key(n), ...rest, ...more };
}

export function contractDevice(peers: readonly PeerState[], more: Partial<WantedDevice> = {}): WantedDevice {
  const byKey = new Map(peers.map((peer) => [peer.publicKey, peer]));
  return { privateKey: secret(200), listenPort: undefined, fwmark: 0, peers: byKey, ...more };
}

/** Brings a device to be what is wanted, and checks that it then is, and that nothing is left to do. */
export async function bringAbout(device: WireguardDevice, wanted: WantedDevice): Promise<void> {
  await device.write(planDevice(wanted, await device.read(), NONE));
  const found = await device.read();
  assert.equal(found.publicKey, wanted.privateKey.publicKey());
  assert.equal(found.fwmark, wanted.fwmark);
  if (wanted.listenPort !== undefined) assert.equal(found.listenPort, wanted.listenPort);
  assert.deepEqual([...found.peers.keys()].sort(), [...wanted.peers.keys()].sort());
  for (const peer of wanted.peers.values()) {
    const got = found.peers.get(peer.publicKey)!;
    assert.deepEqual([...got.prefixes].sort(), [...peer.prefixes].sort());
    assert.equal(got.presharedKey?.reveal(), peer.presharedKey?.reveal());
    assert.equal(got.keepaliveSecs, peer.keepaliveSecs);
    if (peer.endpoint !== undefined) assert.equal(got.endpoint, peer.endpoint);
    assert.equal(got.lastHandshakeMs, undefined);
  }
  assert.ok(isEmptyChange(planDevice(wanted, found, NONE)));
}

/** Declares the tests; they share one device. */
export function declareDeviceContract(open: () => Promise<OpenDevice>): void {
  let opened: OpenDevice;
  before(async () => {
    opened = await open();
  });
  after(async () => {
    await opened?.[Symbol.asyncDispose]();
  });

  it('starts with no key and no peers', async () => {
    const found = await opened.device.read();
    assert.equal(found.publicKey, undefined);
    assert.equal(found.peers.size, 0);
  });

  it('becomes what is wanted, and then nothing is left to do', async () => {
    const { device } = opened;
    await bringAbout(device, contractDevice([contractPeer(1), contractPeer(2), contractPeer(3)], { fwmark: 7 }));
    const changed = contractPeer(1, { presharedKey: undefined, endpoint: '[::1]:40001', keepaliveSecs: 25 });
    await bringAbout(device, contractDevice([changed, contractPeer(2)], { privateKey: secret(201) }));
  });

  it('moves prefixes, takes those away that nobody is to have, and leaves the rest', async () => {
    const { device } = opened;
    await bringAbout(device, contractDevice([contractPeer(1), contractPeer(2), contractPeer(3)]));
    const moved = [
      contractPeer(1, { prefixes: new Set(['10.0.1.0/24']) }),
      contractPeer(2, { prefixes: new Set(['10.0.2.0/24', '10.0.3.0/24', 'fd42:3::/48']) }),
    ];
    await bringAbout(device, contractDevice(moved));
    await bringAbout(device, contractDevice([]));
  });

  it('removes a peer that is not there without a word, and makes none of it', async () => {
    const { device } = opened;
    await device.write({ peers: [{ kind: 'remove', publicKey: key(50) }] });
    assert.equal((await device.read()).peers.has(key(50)), false);
  });

  it('says what it refuses without showing a key, and works on', async () => {
    const { device } = opened;
    const whole = contractPeer(4, { endpoint: 'nowhere' });
    const { endpoint, presharedKey } = whole;
    const fields = { endpoint: endpoint!, presharedKey: presharedKey! };
    await assert.rejects(
      device.write({ fwmark: 9, peers: [{ kind: 'add', publicKey: key(4), fields, whole }] }),
      (error) => {
        assert.match(String(error), /errno 22, EINVAL/);
        assert.ok(!String(error).includes(Buffer.from(presharedKey!.reveal(), 'base64').toString('hex')));
        return true;
      },
    );
    assert.equal((await device.read()).fwmark, 9, 'what came before the refused part stays');
    await bringAbout(device, contractDevice([contractPeer(1)]));
  });

  it('names a peer that is refused, and has the others become what is wanted', async () => {
    const { device } = opened;
    await bringAbout(device, contractDevice([contractPeer(1)]));
    const peers = [contractPeer(2), contractPeer(3, { endpoint: 'nowhere' }), contractPeer(4)];
    const { refused, writtenEndpoints } = await reconcile(device, contractDevice(peers, { fwmark: 5 }), NONE);
    assert.deepEqual([...refused.keys()], [key(3)]);
    assert.deepEqual([...writtenEndpoints.keys()].sort(), [key(2), key(4)].sort());
    const found = await device.read();
    assert.equal(found.fwmark, 5);
    assert.equal(found.peers.has(key(1)), false);
    assert.deepEqual([...found.peers.get(key(4))!.prefixes].sort(), [...peers[2]!.prefixes].sort());
    const mended = contractDevice([contractPeer(2), contractPeer(3), contractPeer(4)], { fwmark: 5 });
    assert.equal((await reconcile(device, mended, { writtenEndpoints })).refused.size, 0);
    await bringAbout(device, mended);
    assert.ok(isEmptyChange((await reconcile(device, mended, { writtenEndpoints })).change));
  });

  it('becomes one thing after another, whatever was there before', async () => {
    const { device } = opened;
    const owners = fc.array(fc.nat(5), { minLength: 6, maxLength: 6 });
    const states = fc.tuple(owners, fc.subarray([0, 1, 2, 3]), fc.nat(3)).map(([owned, present, fwmark]) => {
      const peers = present.map((n) => {
        const prefixes = new Set(owned.flatMap((owner, place) => (owner === n ? [`10.9.${place}.0/24`] : [])));
        return contractPeer(n + 1, { prefixes, keepaliveSecs: fwmark * 10, presharedKey: secret(150 + fwmark) });
      });
      return contractDevice(peers, { fwmark });
    });
    await fc.assert(
      fc.asyncProperty(states, (wanted) => bringAbout(device, wanted)),
      { numRuns: 40 },
    );
  });
}

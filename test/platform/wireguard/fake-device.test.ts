import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { planDevice } from '../../../src/capabilities/network/plan.ts';
import { BORINGTUN, decodeDevice, encodeChange, PLAIN } from '../../../src/platform/wireguard/uapi.ts';
import { UapiDevice, uapiPath } from '../../../src/platform/wireguard/uapi-device.ts';
import { FakeWireguard, type Flavour } from '../../fixtures/fake-wireguard.ts';
import { bringAbout, contractDevice, contractPeer, declareDeviceContract, type OpenDevice } from './device-contract.ts';

async function open(flavour: Flavour): Promise<OpenDevice & { fake: FakeWireguard; device: UapiDevice; path: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'longline-wg-'));
  const path = join(folder, 'wg0.sock');
  const fake = await FakeWireguard.listen(path, flavour);
  const dispose = async () => {
    await fake.close();
    await rm(folder, { recursive: true });
  };
  return { fake, path, device: new UapiDevice(path, { timeoutMs: 60_000 }), [Symbol.asyncDispose]: dispose };
}

for (const flavour of ['wireguard-go', 'boringtun'] as const) {
  describe(`WireGuard behind its socket, a fake ${flavour}`, () => declareDeviceContract(() => open(flavour)));
}

describe('what is sent to WireGuard', () => {
  it('is one operation for a change, with update_only right behind the key, and only what changed', async () => {
    await using opened = await open('wireguard-go');
    await bringAbout(opened.device, contractDevice([contractPeer(1), contractPeer(2)]));
    opened.fake.operations.length = 0;
    const wanted = contractDevice([contractPeer(1, { keepaliveSecs: 25 })]);
    const none = { writtenEndpoints: new Map<string, string>() };
    await opened.device.write(planDevice(wanted, await opened.device.read(), none));
    const hex = (n: number) => Buffer.alloc(32, n).toString('hex');
    assert.deepEqual(opened.fake.operations, [
      'get=1',
      [
        'set=1',
        `public_key=${hex(1)}`,
        'update_only=true',
        'persistent_keepalive_interval=25',
        `public_key=${hex(2)}`,
        'update_only=true',
        'remove=true',
      ].join('\n'),
    ]);
  });

  it('switches keepalives on to greet a peer, and off again where none are wanted', () => {
    const publicKey = `public_key=${Buffer.alloc(32, 1).toString('hex')}\n`;
    const [endpoint, prefix] = ['127.0.0.1:40001', '10.0.1.0/24'];
    const greeting = (keepaliveSecs?: number) => {
      const whole = contractPeer(1);
      const own = keepaliveSecs === undefined ? {} : { keepaliveSecs };
      const fields = { endpoint, addPrefixes: [prefix], greet: true, ...own };
      return encodeChange({ peers: [{ kind: 'add', publicKey: whole.publicKey, fields, whole }] }, PLAIN)[0];
    };
    const begin = `set=1\n${publicKey}endpoint=${endpoint}\n`;
    const update = (secs: number) => `${publicKey}update_only=true\npersistent_keepalive_interval=${secs}\n`;
    assert.equal(greeting(25), `${begin}${update(25)}allowed_ip=${prefix}\n\n`);
    assert.equal(greeting(), `${begin}${update(65_535)}allowed_ip=${prefix}\n${update(0)}\n`);
  });

  it('goes where each system has it', () => {
    assert.equal(uapiPath('wg0', 'linux'), '/var/run/wireguard/wg0.sock');
    assert.equal(uapiPath('utun3', 'darwin'), '/var/run/wireguard/utun3.sock');
    assert.equal(uapiPath('wg0', 'win32'), '\\\\.\\pipe\\ProtectedPrefix\\Administrators\\WireGuard\\wg0');
  });
});

describe('a WireGuard that fails', () => {
  it('is unavailable if it is not there, hangs up, or gives no reply in time', async () => {
    await using opened = await open('wireguard-go');
    await assert.rejects(new UapiDevice('/nonexistent/wg0.sock').read(), /unavailable|can't be reached/);
    await opened.device.read();
    opened.fake.nextReply = '';
    await assert.rejects(opened.device.read(), { reason: 'unavailable', message: /closed the connection/ });
    opened.fake.mute = true;
    const hasty = new UapiDevice(opened.path, { timeoutMs: 200 });
    await assert.rejects(hasty.read(), { reason: 'unavailable', message: /no reply within 0\.2 s/ });
    await assert.rejects(opened.device.read(AbortSignal.abort()), { reason: 'cancelled' });
  });

  it('names a taken port, and never a value of a reply it cannot read', async () => {
    await using opened = await open('wireguard-go');
    await opened.device.read();
    opened.fake.nextReply = 'errno=-98\n\n';
    await assert.rejects(opened.device.write({ listenPort: 1, peers: [] }), { reason: 'already_exists' });
    opened.fake.nextReply = `private_key=${'ab'.repeat(31)}\nerrno=0\n\n`;
    await assert.rejects(opened.device.read(), (error) => {
      return /malformed private_key/.test(String(error)) && !String(error).includes('abab');
    });
  });
});

describe('time of the last handshake', () => {
  const reply = (lines: string) =>
    `own_public_key=${'01'.repeat(32)}\npublic_key=${'02'.repeat(32)}\n${lines}errno=0\n\n`;
  const times = 'last_handshake_time_sec=100\nlast_handshake_time_nsec=500000000\n';

  it('is a moment, or with boringtun an age', () => {
    const at = (quirks: typeof PLAIN, lines = times) => {
      return [...decodeDevice(reply(lines), quirks, 1_000_000).peers.values()][0]!.lastHandshakeMs;
    };
    assert.equal(at(PLAIN), 100_500);
    assert.equal(at(BORINGTUN), 899_500);
    assert.equal(at(BORINGTUN, ''), undefined);
    assert.equal(at(PLAIN, 'last_handshake_time_sec=0\nlast_handshake_time_nsec=0\n'), undefined);
  });
});

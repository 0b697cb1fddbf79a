import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { KernelDevice } from '../../../src/platform/wireguard/kernel-device.ts';
import { NetlinkRefusal, NetlinkSocket } from '../../../src/platform/wireguard/netlink.ts';
import { FakeKernelWireguard } from '../../fixtures/fake-kernel-wireguard.ts';
import { bringAbout, contractDevice, contractPeer, declareDeviceContract } from './device-contract.ts';

function open() {
  const fake = new FakeKernelWireguard('wg0');
  return { fake, device: new KernelDevice('wg0', () => fake), [Symbol.asyncDispose]: async () => undefined };
}

describe('WireGuard of a kernel, a fake one', () => {
  declareDeviceContract(async () => open());

  it('takes a peer with more prefixes than fit into a message, and thousands of peers', async () => {
    const { device, fake } = open();
    const prefixes = new Set(Array.from({ length: 5000 }, (_, n) => `10.${n >> 8}.${n & 255}.0/24`));
    await bringAbout(device, contractDevice([contractPeer(1, { prefixes })]));
    const key = (n: number) => Buffer.from(n.toString(16).padStart(64, 'f'), 'hex').toString('base64');
    const many = Array.from({ length: 2000 }, (_, n) => {
      return contractPeer(1, {
        publicKey: key(n),
        prefixes: new Set([`10.${n >> 8}.${n & 255}.1/32`, `fd42::${n.toString(16)}/128`]),
      });
    });
    fake.changes = 0;
    await bringAbout(device, contractDevice([contractPeer(1, { prefixes }), ...many]));
    assert.ok(fake.changes < 20, `${fake.changes} messages`);
  });

  it('says what it is that is missing', async () => {
    const { fake } = open();
    await assert.rejects(new KernelDevice('wg1', () => fake).read(), {
      reason: 'unavailable',
      message: /"wg1" is not there/,
    });
    await assert.rejects(new KernelDevice('wg0', () => fake).read(AbortSignal.abort()), { reason: 'cancelled' });
    const refusing = (errno: number) => ({
      request: async () => {
        throw new NetlinkRefusal(errno);
      },
      [Symbol.dispose]: () => undefined,
    });
    const read = async (errno: number) => await new KernelDevice('wg0', () => refusing(errno)).read();
    await assert.rejects(read(2), { reason: 'unavailable', message: /no WireGuard, or its module is not loaded/ });
    await assert.rejects(read(1), { reason: 'unavailable', message: /CAP_NET_ADMIN/ });
    await assert.rejects(read(98), { reason: 'already_exists', message: /port is taken/ });
  });
});

const onLinux = process.platform === 'linux';

describe('netlink', { skip: onLinux ? false : 'needs Linux' }, () => {
  it('asks the kernel, and gives its refusal by number', async () => {
    using netlink = new NetlinkSocket(16);
    const families = await netlink.request(16, Buffer.from([3, 1, 0, 0]), 'dump');
    assert.ok(families.some((reply) => reply.includes('nlctrl')));
    const absent = Buffer.concat([Buffer.from([3, 1, 0, 0, 11, 0, 2, 0]), Buffer.from('nobody\0\0')]);
    await assert.rejects(netlink.request(16, absent, 'do'), { errno: 2 });
    assert.equal((await netlink.request(16, Buffer.from([3, 1, 0, 0]), 'dump')).length, families.length);
  });
});

/** True where a WireGuard of the kernel's can be made, in a namespace that goes away with the attempt. */
function kernelHasWireguard(): boolean {
  if (!onLinux || process.getuid?.() !== 0) return false;
  return spawnSync('unshare', ['--net', 'ip', 'link', 'add', 'probe', 'type', 'wireguard']).status === 0;
}

// Few kernels that tests run on have it: where one does, it is held to the same as the fake.
if (kernelHasWireguard()) {
  describe('WireGuard of a kernel, the real one', () => {
    declareDeviceContract(async () => {
      const name = `llk${process.pid.toString(36)}`;
      execFileSync('ip', ['link', 'add', name, 'type', 'wireguard']);
      const dispose = async () => void execFileSync('ip', ['link', 'delete', name]);
      return { device: new KernelDevice(name), [Symbol.asyncDispose]: dispose };
    });
  });
}

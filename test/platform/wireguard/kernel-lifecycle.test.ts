// Life of an interface of the kernel's, to the exact commands.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { InterfaceRequest } from '../../../src/capabilities/network/ports.ts';
import type { StateStore } from '../../../src/core/capability.ts';
import type { Clock } from '../../../src/core/clock.ts';
import type { RunCommand } from '../../../src/core/command.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import type { WireguardBackend } from '../../../src/platform/wireguard/backend.ts';
import { daemonUser } from '../../../src/platform/wireguard/daemon-user.ts';
import { KernelBackend } from '../../../src/platform/wireguard/kernel.ts';
import { LinuxInterfaces } from '../../../src/platform/wireguard/linux-interfaces.ts';
import { LinuxLinks } from '../../../src/platform/wireguard/linux-links.ts';
import { MemoryState } from '../../capabilities/jobs/jobs-fixture.ts';
import { FakeIp } from '../../fixtures/fake-ip.ts';

const LABEL = 'longline:one';
const EARLY = 'll20bf80effe6b';

const asked = (more: Partial<InterfaceRequest> = {}): InterfaceRequest => {
  return { name: 'wg0', backend: 'auto', mtu: 1420, fwmark: 0, listenPort: undefined, adoptForeign: false, ...more };
};

/** A user-space backend of which only the choice matters. */
function otherBackend(made: string[]): WireguardBackend {
  return {
    kind: 'wireguard-go',
    missing: async () => undefined,
    fault: async () => undefined,
    alive: async () => undefined,
    shortOf: () => undefined,
    make: async ({ name }) => void made.push(name),
    halt: async () => undefined,
    clear: async () => undefined,
    device: () => {
      return { read: async () => assert.fail('not read'), write: async () => assert.fail('not written') };
    },
  };
}

function host(ip = new FakeIp(), state: StateStore = new MemoryState(), run: RunCommand = ip.run, clock?: Clock) {
  const links = new LinuxLinks(run);
  const inUserSpace: string[] = [];
  const backends = [new KernelBackend({ links, label: LABEL }), otherBackend(inUserSpace)];
  const parts = { backends, links, label: LABEL, state };
  return { ip, inUserSpace, interfaces: new LinuxInterfaces(clock === undefined ? parts : { ...parts, clock }) };
}

describe('an interface of the kernel', { skip: process.platform === 'linux' ? false : 'needs Linux' }, () => {
  it('is made anew and leaves nothing under the name that somebody else gave it; the same when it goes', async () => {
    const { interfaces, ip } = host();
    await interfaces.open(asked({ name: 'wg1' }));
    for (const goes of [false, true]) {
      await interfaces.open(asked());
      ip.add('other', 'wireguard');
      await ip.run({ argv: ['ip', 'link', 'set', 'dev', 'wg0', 'name', 'moved'] });
      ip.links.delete('wg0');
      if (goes) await interfaces.remove('wg0');
      else assert.equal((await interfaces.open(asked())).adopted, false);
      assert.deepEqual([...ip.links.keys()].sort(), goes ? ['other', 'wg1'] : ['other', 'wg0', 'wg1']);
    }
  });

  it('is made under another name, labelled, and then given its own; adopted without a command; removed', async () => {
    const { interfaces, ip } = host();
    const opened = await interfaces.open(asked());
    assert.partialDeepStrictEqual(opened, { adopted: false, foreign: false, kind: 'kernel', realName: 'wg0' });
    assert.deepEqual(ip.changes.splice(0), [
      `link add dev ${EARLY} type wireguard`,
      `link set dev ${EARLY} alias ${LABEL} mtu 1420`,
      `link set dev ${EARLY} name wg0`,
    ]);
    assert.equal((await interfaces.open(asked())).adopted, true);
    assert.deepEqual(ip.changes, []);
    await interfaces.remove('wg0');
    assert.deepEqual(ip.changes, ['link delete dev wg0']);
    assert.equal(ip.links.size, 0);
  });

  it('leaves links alone that others made, and adopts only a WireGuard, where it may', async () => {
    const { interfaces, ip } = host();
    ip.add('wg0', 'dummy');
    await assert.rejects(interfaces.open(asked({ adoptForeign: true })), {
      reason: 'already_exists',
      message: /a dummy/,
    });
    ip.links.clear();
    ip.add('wg0', 'wireguard');
    await assert.rejects(interfaces.open(asked()), { reason: 'already_exists', message: /adopt_interface/ });
    const opened = await interfaces.open(asked({ adoptForeign: true }));
    assert.partialDeepStrictEqual(opened, { adopted: true, foreign: true, kind: 'kernel' });
    await assert.rejects(interfaces.open(asked({ adoptForeign: true, backend: 'boringtun' })), {
      reason: 'wrong_state',
    });
    await interfaces.remove('wg0');
    assert.deepEqual([ip.changes, [...ip.links.keys()], await interfaces.list()], [[], ['wg0'], []]);
  });

  it('is had where the kernel has one, else in user space, and with a reason if it has to be the kernel’s', async () => {
    const ip = new FakeIp();
    ip.hasWireguard = false;
    const { inUserSpace, interfaces } = host(ip);
    assert.equal((await interfaces.open(asked())).kind, 'wireguard-go');
    assert.deepEqual(inUserSpace, ['wg0']);
    assert.deepEqual(ip.changes, []);
    await assert.rejects(interfaces.open(asked({ name: 'wg1', backend: 'kernel' })), {
      reason: 'unsupported',
      message: /kernel can't be had for "wg1".*Unknown device type.*modprobe wireguard/,
    });
    const [kernel] = await interfaces.backends();
    assert.match(kernel!.missing!, /this kernel has no WireGuard/);
  });

  it('comes out whole after a kill at any step', async () => {
    for (let step = 1; ; step++) {
      const ip = new FakeIp();
      const state = new MemoryState();
      let steps = 0;
      const dying: RunCommand = async (command) => {
        if (!command.argv.includes('show') && ++steps >= step) throw new Error('killed');
        return await ip.run(command);
      };
      const first = await host(ip, state, dying)
        .interfaces.open(asked())
        .catch((error: Error) => error);
      const { interfaces } = host(ip, state);
      await interfaces.open(asked());
      assert.equal((await interfaces.open(asked())).adopted, true);
      assert.deepEqual([...ip.links.keys()], ['wg0'], `step ${step}`);
      if (!(first instanceof Error)) break;
    }
  });

  it('is made anew if its daemon hangs up because it is just ending', async () => {
    const ip = new FakeIp();
    const links = new LinuxLinks(ip.run);
    const made: string[] = [];
    let looks = 0;
    const ending: WireguardBackend = {
      ...otherBackend(made),
      alive: async () => {
        throw new LonglineError('unavailable', 'read ECONNRESET');
      },
      fault: async () => (looks++ < 3 ? undefined : 'its daemon has ended'),
    };
    const parts = { backends: [ending], links, label: LABEL, state: new MemoryState() };
    await new LinuxInterfaces(parts).open(asked());
    ip.add('wg0', 'tun');
    Object.assign(ip.links.get('wg0')!, { alias: LABEL });
    assert.equal((await new LinuxInterfaces(parts).open(asked())).adopted, false);
    assert.deepEqual(made, ['wg0', 'wg0']);
  });

  it('is lost when its link is gone, or is somebody else’s by now', async () => {
    const ip = new FakeIp();
    const clock = { now: () => 0, monotonic: () => 0, sleep: async () => void (await new Promise(setImmediate)) };
    const { interfaces } = host(ip, new MemoryState(), ip.run, clock);
    const opened = await interfaces.open(asked());
    const lost = opened.lost(AbortSignal.timeout(20_000));
    ip.links.clear();
    assert.match(await lost, /"wg0" is gone/);
    ip.add('wg0', 'tun');
    await assert.rejects(interfaces.open(asked()), { reason: 'already_exists' });
    assert.deepEqual(await interfaces.list(), []);
  });
});

describe('who a daemon runs as', () => {
  it('is a user of its own, if we may become it and end it', () => {
    assert.deepEqual(daemonUser('Name:\tnode\nCapEff:\t000001ffffffffff\n'), { uid: 65_527, gid: 65_527 });
    assert.equal(daemonUser('Name:\tnode\nCapEff:\t0000000000001000\n'), undefined);
  });
});

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isBpfFileSystem, mountBpfFileSystem } from '../../../src/platform/ebpf/bpf-file-system.ts';
import { BpfFd, checked, mapInfo, pin } from '../../../src/platform/ebpf/bpf-syscall.ts';
import { libbpf } from '../../../src/platform/ebpf/libbpf.ts';
import { Pins } from '../../../src/platform/ebpf/pins.ts';
import { bpfMissing, PrivateBpffs } from '../../fixtures/private-bpffs.ts';

const INSTANCE = '0190b5c2-instance';
const COUNTS = { name: 'counts', shape: 'a1b2' };
const PLACE = { program: 'counter', revision: 3 };

function makeMap(name: string): BpfFd {
  return new BpfFd(checked('making a map', libbpf().number('bpf_map_create', 1, name, 4, 8, 16, null)));
}

describe('pins', { skip: bpfMissing() ?? false }, () => {
  it('has a BPF file system mounted, once', async () => {
    await using host = new PrivateBpffs();
    assert.equal(isBpfFileSystem(host.mountPoint), false);
    assert.equal(mountBpfFileSystem(host.mountPoint), true);
    assert.equal(isBpfFileSystem(host.mountPoint), true);
    assert.equal(mountBpfFileSystem(host.mountPoint), false);
    assert.equal(host.mounts(), 1);
    const there = { reason: 'policy', message: /mounted: making .* failed with EEXIST; as root: mount -t bpf/ };
    assert.throws(() => mountBpfFileSystem('/proc/self/status/bpf'), there);
  });

  it('makes a revision of a draft only once it is whole', async () => {
    await using host = new PrivateBpffs();
    await host.mount();
    const pins = new Pins(host.mountPoint, INSTANCE);
    assert.deepEqual(pins.programs(), []);
    using map = makeMap('counts');
    {
      using draft = pins.draft(PLACE);
      pin(map.fd, draft.mapPath(COUNTS));
      assert.deepEqual(pins.revisions('counter'), []);
    }
    assert.deepEqual(readdirSync(join(pins.folder, 'counter/revisions')), []);
    using draft = pins.draft(PLACE);
    pin(map.fd, draft.mapPath(COUNTS));
    pin(map.fd, draft.mapPath({ name: '.bss', shape: '0' }));
    draft.commit();
    assert.deepEqual([pins.programs(), pins.revisions('counter')], [['counter'], [3]]);
    assert.deepEqual(
      [pins.functions(PLACE), pins.maps(PLACE), pins.has(PLACE)],
      [[], [{ name: '.bss', shape: '0' }, COUNTS], true],
    );
    using found = pins.openMap(PLACE, 'counts');
    assert.equal(mapInfo(found!.fd).id, mapInfo(map.fd).id);
    assert.equal(pins.openMap(PLACE, 'other'), undefined);
    assert.throws(() => pins.openFunction(PLACE, 'count'), {
      reason: 'not_found',
      message: /function count of counter revision 3 isn't loaded; it has none/,
    });
    pins.remove(PLACE);
    assert.equal(existsSync(pins.folder), false);
    pins.remove(PLACE);
  });

  it('takes away what a kill left, and nothing else', async () => {
    await using host = new PrivateBpffs();
    await host.mount();
    const pins = new Pins(host.mountPoint, INSTANCE);
    using map = makeMap('counts');
    using whole = pins.draft(PLACE);
    pin(map.fd, whole.mapPath(COUNTS));
    whole.commit();
    // As it lies there after a kill: the next one to look isn't the one that made it.
    const left = new Pins(host.mountPoint, INSTANCE).draft({ program: 'counter', revision: 4 });
    pin(map.fd, left.mapPath(COUNTS));
    const foreign = join(host.mountPoint, 'longline', 'other-instance');
    mkdirSync(foreign);
    pins.makeLinksFolder('counter');
    const link = pins.linkPath('counter', 'xdp_eth0');
    pin(map.fd, link);
    mkdirSync(join(pins.folder, 'counter/revisions/gone-2/maps'), { recursive: true });
    assert.deepEqual(pins.tidy('counter'), { left: true, revisions: [3] });
    assert.deepEqual(pins.tidy('counter'), { left: false, revisions: [3] });
    assert.deepEqual([pins.revisions('counter'), readdirSync(pins.linksFolder('counter'))], [[3], ['xdp_eth0']]);
    assert.deepEqual(readdirSync(join(pins.folder, 'counter/revisions')), ['3']);
    pins.remove(PLACE);
    assert.deepEqual(pins.programs(), ['counter']);
    rmSync(link);
    pins.tidy('counter');
    assert.deepEqual([existsSync(pins.folder), existsSync(foreign)], [false, true]);
  });

  it('refuses names that lead elsewhere, or that the kernel would', () => {
    const pins = new Pins('/sys/fs/bpf', INSTANCE);
    for (const program of ['..', 'a/b', '', 'a.b', 'x'.repeat(65)]) {
      assert.throws(() => pins.revisions(program), { reason: 'invalid' });
      assert.throws(() => pins.linkPath('counter', program), { reason: 'invalid' });
      assert.throws(() => new Pins('/sys/fs/bpf', program), { reason: 'invalid' });
    }
    assert.equal(pins.openMap(PLACE, '../links'), undefined);
    assert.throws(() => pins.openPinnedMap(PLACE, { name: '../links', shape: '0' }), { reason: 'invalid' });
    // Like the folder that waits for a BPF file system it denies that anything could be in it.
    const nowhere = new Pins('/proc/self/fd', INSTANCE);
    assert.throws(() => nowhere.makeLinksFolder('counter'), { reason: 'unavailable', message: /mounted there/ });
    for (const revision of [0, -1, 1.5, Number.NaN]) {
      assert.throws(() => pins.has({ program: 'counter', revision }), {
        reason: 'invalid',
        message: /whole number from 1/,
      });
    }
  });
});

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { LonglineError } from '../../../src/core/errors.ts';
import * as bpf from '../../../src/platform/ebpf/bpf-syscall.ts';
import { cCall } from '../../../src/platform/ebpf/c-library.ts';
import { libbpf, openLibrary } from '../../../src/platform/ebpf/libbpf.ts';
import { readU64, writeU64 } from '../../../src/platform/ebpf/native-bytes.ts';
import { bpfMissing, PrivateBpffs } from '../../fixtures/private-bpffs.ts';

const HASH = 1;
const SOCKET_FILTER = 1;
/** r0 = 0; exit */
const RETURN_0 = Buffer.from('b700000000000000' + '9500000000000000', 'hex');

function makeMap(name: string): bpf.BpfFd {
  return new bpf.BpfFd(bpf.checked('making a map', libbpf().number('bpf_map_create', HASH, name, 4, 8, 16, null)));
}

describe('the bpf system call', { skip: bpfMissing() ?? false }, () => {
  it('pins, opens and describes maps and programs', async () => {
    await using host = new PrivateBpffs();
    await host.mount();
    using map = makeMap('counts');
    const path = join(host.mountPoint, 'counts');
    bpf.pin(map.fd, path);
    assert.throws(() => bpf.pin(map.fd, path), {
      reason: 'already_exists',
      message: /pinning .*counts failed with EEXIST/,
    });
    using opened = bpf.openPin(path);
    const info = bpf.mapInfo(opened!.fd);
    assert.deepEqual(
      [info.name, info.type, info.keySize, info.valueSize, info.maxEntries, info.id],
      ['counts', HASH, 4, 8, 16, bpf.mapInfo(map.fd).id],
    );
    assert.equal(bpf.openPin(join(host.mountPoint, 'absent')), undefined);
    using byId = bpf.mapById(info.id);
    assert.equal(bpf.mapInfo(byId!.fd).name, 'counts');
    const loading = libbpf().number('bpf_prog_load', SOCKET_FILTER, 'nothing', 'GPL', RETURN_0, 2, null);
    using program = new bpf.BpfFd(bpf.checked('loading', loading));
    const { name, type, mapIds } = bpf.programInfo(program.fd);
    assert.deepEqual([name, type, mapIds], ['nothing', SOCKET_FILTER, []]);
  });

  it('reads, writes, lists and deletes elements', () => {
    using map = makeMap('counts');
    const key = Buffer.from([1, 0, 0, 0]);
    const value = Buffer.alloc(8);
    assert.equal(bpf.lookupElement('reading', map.fd, key, value), false);
    writeU64(value, 0, 7n);
    bpf.updateElement('writing', map.fd, key, value);
    value.fill(0);
    assert.equal(bpf.lookupElement('reading', map.fd, key, value), true);
    assert.equal(readU64(value, 0), 7n);
    const first = bpf.nextKey('listing', map.fd, undefined, 4);
    assert.deepEqual(first, key);
    assert.equal(bpf.nextKey('listing', map.fd, first, 4), undefined);
    assert.equal(bpf.deleteElement('deleting', map.fd, key), true);
    assert.equal(bpf.deleteElement('deleting', map.fd, key), false);
  });

  it('tells classes of errors, and their names', () => {
    assert.throws(() => bpf.checked('trying', -1), { reason: 'policy', message: /EPERM: the agent needs CAP_BPF/ });
    assert.throws(() => bpf.checked('trying', -524), { reason: 'unsupported', message: /ENOTSUPP/ });
    assert.throws(
      () => bpf.checked('trying', -19),
      (error) => bpf.errnoBehind(error) === bpf.ERRNO.ENODEV,
    );
    assert.equal(bpf.errnoName(99999), 'errno 99999');
    assert.deepEqual(cCall('close', -1), { result: -1, errno: 9 });
  });

  it('hears what libbpf says, and says it nowhere else', () => {
    const open = () => libbpf().address('bpf_object__open_mem', Buffer.from('not an object'), 13, null);
    const { result, said } = libbpf().listen(open);
    assert.equal(result, null);
    assert.match(said, /is not a proper ELF object/);
  });

  it('names the mend if the library can’t be had', async () => {
    const koffi = await import('koffi');
    assert.throws(
      () => openLibrary(koffi, 'libbpf.so.0-absent'),
      (error) =>
        error instanceof LonglineError && error.reason === 'unsupported' && /install libbpf 1.0/.test(error.message),
    );
  });
});

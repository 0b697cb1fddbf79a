import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LonglineError } from '../../../src/core/errors.ts';
import { Btf } from '../../../src/platform/ebpf/btf.ts';
import { checkElf } from '../../../src/platform/ebpf/elf-check.ts';
import { ObjectFile } from '../../../src/platform/ebpf/object-file.ts';
import { bpfObject, OBJECT_NAMES, type ObjectName } from '../../fixtures/bpf/objects.ts';
import { bpfMissing } from '../../fixtures/private-bpffs.ts';

/** Either reads it or says why not: an object that isn't one takes the process with it if libbpf gets it. */
function outcome(bytes: Uint8Array): 'invalid' | 'object' {
  try {
    using object = new ObjectFile(bytes);
    object.types?.variables();
    return 'object';
  } catch (error) {
    assert.ok(error instanceof LonglineError && error.reason === 'invalid', String(error));
    return 'invalid';
  }
}

const anyName = fc.constantFrom(...OBJECT_NAMES);

describe('an object', { skip: bpfMissing() ?? false }, () => {
  it('tells its functions, maps and variables', () => {
    using object = new ObjectFile(bpfObject('xdp-filter').bytes);
    assert.deepEqual(
      object.functions.map(({ name, section, type }) => [name, section, type]),
      [['filter_packets', 'xdp', 6]],
    );
    const maps = object.maps.map(({ internal, keySize, maxEntries, name, type, valueSize }) => {
      return [name, internal, type, keySize, valueSize, maxEntries];
    });
    assert.deepEqual(maps.sort(), [
      ['.rodata', true, 2, 4, maps.find(([name]) => name === '.rodata')![4], 1],
      ['blocked', false, 1, 4, 1, 8],
      ['blocked_networks', false, 11, 8, 4, 8],
      ['counters', false, 2, 4, 24, 1],
      ['settings', false, 2, 4, 8, 4],
    ]);
    const variables = object.types!.variables().filter(({ section }) => section === '.rodata');
    assert.deepEqual(Object.fromEntries(variables.map(({ name, shape, size }) => [name, `${shape} ${size}`])), {
      address: 'number 4',
      address6: 'array 16',
      enabled: 'number 1',
      hardware: 'array 6',
      label: 'array 16',
      offset: 'number 8',
      port: 'number 2',
      wide: 'number 8',
    });
  });

  it('is read, whichever of the fixtures it is', () => {
    for (const name of OBJECT_NAMES) assert.equal(outcome(bpfObject(name).bytes), 'object', name);
  });

  it('is read wherever in memory it lies', () => {
    const { bytes } = bpfObject('xdp-filter');
    for (let offset = 0; offset < 9; offset++) {
      const around = Buffer.alloc(bytes.length + 16, 0xff);
      around.set(bytes, offset);
      assert.equal(outcome(around.subarray(offset, offset + bytes.length)), 'object', `at ${offset}`);
    }
  });

  it('is refused where it is cut off, anywhere', () => {
    for (const name of ['xdp-counter', 'xdp-events', 'uprobe'] satisfies ObjectName[]) {
      const { bytes } = bpfObject(name);
      for (let length = 0; length < bytes.length; length += 7) {
        assert.equal(outcome(bytes.subarray(0, length)), 'invalid', `${name} cut to ${length}`);
      }
    }
  });

  it('is read or refused, whatever bytes of it are others', () => {
    const bent = fc.tuple(anyName, fc.array(fc.tuple(fc.nat(65_535), fc.nat(255)), { maxLength: 4, minLength: 1 }));
    const check = fc.property(bent, ([name, changes]) => {
      const bytes = Buffer.from(bpfObject(name).bytes);
      for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
      outcome(bytes);
    });
    fc.assert(check, { numRuns: 500 });
  });

  it('says what it is instead', () => {
    const elf = Buffer.from(bpfObject('xdp-counter').bytes);
    const other = (at: number, ...values: number[]) => {
      const copy = Buffer.from(elf);
      copy.set(values, at);
      return copy;
    };
    assert.throws(() => checkElf(Buffer.alloc(0)), /it has 0 bytes/);
    assert.throws(() => checkElf(Buffer.from('#!/bin/sh\n'.repeat(20))), /it is no ELF file;.* clang -target bpf/);
    assert.throws(() => checkElf(other(18, 62)), /for machine 62, not 1 and 247/);
    assert.throws(() => checkElf(other(4, 1)), /64 bit/);
    assert.throws(() => checkElf(elf.subarray(0, elf.length - 8)), /cut off/);
    assert.throws(() => checkElf(Buffer.alloc(65 * 1024 * 1024)), /may have 67108864/);
  });

  it('has types that are the same only if they hold the same', () => {
    const typesOf = (name: ObjectName) => {
      using object = new ObjectFile(bpfObject(name).bytes);
      const map = object.maps.find((one) => one.name === 'counters')!;
      return { shape: object.types!.shapeOf(map.btfValueTypeId), size: object.types!.sizeOf(map.btfValueTypeId) };
    };
    assert.deepEqual(typesOf('xdp-counter'), typesOf('xdp-events'));
    assert.equal(typesOf('xdp-counter').size, typesOf('xdp-counter-shape').size);
    assert.notEqual(typesOf('xdp-counter').shape, typesOf('xdp-counter-shape').shape);
    assert.throws(() => new Btf(Buffer.from('no types at all, but long enough')), { reason: 'invalid' });
  });
});

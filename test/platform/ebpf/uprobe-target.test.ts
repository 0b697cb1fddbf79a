import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { LonglineError } from '../../../src/core/errors.ts';
import { onlineProcessors } from '../../../src/platform/ebpf/perf-event.ts';
import { findSymbol } from '../../../src/platform/ebpf/uprobe-target.ts';
import { failsWith } from '../../contract/kernel-contract.ts';

const HEADER = 64;
const FUNCTION = 2;
const INDIRECT = 10;

interface Symbol_ {
  readonly name: string;
  readonly type?: number;
  readonly section?: number;
  readonly address: bigint;
}

/** An ELF file that is loaded at 0x400000 from its byte 0x1000, with these symbols. */
function elf(symbols: readonly Symbol_[]): Buffer {
  const names = Buffer.from(`\0${symbols.map(({ name }) => `${name}\0`).join('')}`);
  const table = Buffer.alloc(24 * (symbols.length + 1));
  let nameAt = 1;
  for (const [index, { address, name, section = 1, type = FUNCTION }] of symbols.entries()) {
    const at = 24 * (index + 1);
    table.writeUInt32LE(nameAt, at);
    table[at + 4] = 0x10 | type;
    table.writeUInt16LE(section, at + 6);
    table.writeBigUInt64LE(address, at + 8);
    nameAt += name.length + 1;
  }
  const segment = Buffer.alloc(56);
  segment.writeUInt32LE(1, 0);
  segment.writeBigUInt64LE(0x1000n, 8);
  segment.writeBigUInt64LE(0x400000n, 16);
  segment.writeBigUInt64LE(0x2000n, 32);
  const sections = [
    { type: 0, offset: 0, size: 0, link: 0 },
    { type: 11, offset: HEADER + 56, size: table.length, link: 2 },
    { type: 3, offset: HEADER + 56 + table.length, size: names.length, link: 0 },
  ];
  const headers = Buffer.alloc(64 * sections.length);
  for (const [index, { link, offset, size, type }] of sections.entries()) {
    headers.writeUInt32LE(type, 64 * index + 4);
    headers.writeBigUInt64LE(BigInt(offset), 64 * index + 24);
    headers.writeBigUInt64LE(BigInt(size), 64 * index + 32);
    headers.writeUInt32LE(link, 64 * index + 40);
  }
  const header = Buffer.alloc(HEADER);
  header.writeUInt32BE(0x7f454c46, 0);
  header[4] = 2;
  header[5] = 1;
  header.writeBigUInt64LE(BigInt(HEADER), 0x20);
  header.writeBigUInt64LE(BigInt(HEADER + 56 + table.length + names.length), 0x28);
  header.writeUInt16LE(56, 0x36);
  header.writeUInt16LE(1, 0x38);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(sections.length, 0x3c);
  return Buffer.concat([header, segment, table, names, headers]);
}

describe('functions of programs', () => {
  const folder = mkdtempSync(join(tmpdir(), 'll-uprobe-'));
  after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'program');
  const find = (bytes: Uint8Array, symbol: string) => {
    writeFileSync(path, bytes);
    return findSymbol(path, symbol);
  };
  const symbols = [
    { name: 'wanted_elsewhere', section: 0, address: 0n },
    { name: 'mainframe', address: 0x400100n },
    { name: 'main', address: 0x400200n },
    { name: 'data', type: 1, address: 0x400300n },
    { name: 'picked', type: INDIRECT, address: 0x400400n },
    { name: 'lost', address: 0x900000n },
  ];

  test('finds where a function lies in the file', () => {
    assert.equal(find(elf(symbols), 'main'), 0x1200n);
    assert.equal(find(elf(symbols), 'mainframe'), 0x1100n);
  });

  test('says what is wrong with a symbol', () => {
    for (const name of ['wanted_elsewhere', 'data', 'mai', 'frame', '']) {
      assert.throws(() => find(elf(symbols), name), failsWith('not_found', `no function ${name}`));
    }
    assert.throws(() => find(elf(symbols), 'picked'), failsWith('invalid', 'picked'));
    assert.throws(() => find(elf(symbols), 'lost'), failsWith('invalid', 'lost'));
  });

  test('says what is wrong with a file', () => {
    assert.throws(() => findSymbol(join(folder, 'absent'), 'main'), failsWith('not_found', 'absent'));
    assert.throws(() => findSymbol(folder, 'main'), failsWith('invalid', folder));
    assert.throws(() => find(Buffer.from('#!/bin/sh\n'), 'main'), failsWith('invalid', 'no ELF file'));
    assert.throws(() => find(Buffer.alloc(200), 'main'), failsWith('invalid', 'no ELF file'));
    const narrow = elf(symbols);
    narrow[4] = 1;
    assert.throws(() => find(narrow, 'main'), failsWith('invalid', '64 bits'));
  });

  test('takes no damage from a file that is damaged', () => {
    const whole = elf(symbols);
    const damage = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 8 });
    fc.assert(
      fc.property(damage, fc.nat(whole.length), (changes, length) => {
        const bytes = Buffer.from(whole);
        for (const [at, value] of changes) bytes[at] = value;
        try {
          assert.equal(typeof find(bytes.subarray(0, length), 'main'), 'bigint');
        } catch (error) {
          assert.ok(error instanceof LonglineError, String(error));
        }
      }),
      { numRuns: 300 },
    );
  });

  test('finds a function of the C library that runs here', () => {
    const libc = /\S+\/libc[.-]\S*$/m.exec(readFileSync('/proc/self/maps', 'utf8'))?.[0];
    assert.ok(libc !== undefined, 'the C library has another name here');
    assert.ok(findSymbol(libc, 'getppid') > 0n);
  });
});

test('reads which processors are online', () => {
  assert.deepEqual(onlineProcessors('0'), [0]);
  assert.deepEqual(onlineProcessors('0-3'), [0, 1, 2, 3]);
  assert.deepEqual(onlineProcessors('0-1,4,6-7'), [0, 1, 4, 6, 7]);
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { byteRange, matchesTag } from '../../../src/controller/registry/byte-range.ts';

describe('a range of bytes', () => {
  it('is all where none is asked for, or one that makes no sense', () => {
    for (const header of [
      undefined,
      '',
      'bytes',
      'bytes=',
      'bytes=-',
      'bytes=a-b',
      'bytes=5-4',
      'bytes=0-1,4-5',
      'lines=0-1',
    ]) {
      assert.deepEqual(byteRange(header, 10), { kind: 'whole' }, String(header));
    }
  });

  it('is what is there of what was asked for', () => {
    for (const [header, start, end] of [
      ['bytes=0-', 0, 10],
      ['bytes=0-0', 0, 1],
      ['bytes = 3 - 5', 3, 6],
      ['bytes=9-', 9, 10],
      ['bytes=3-99999', 3, 10],
      ['bytes=-1', 9, 10],
      ['bytes=-99', 0, 10],
    ] as const) {
      assert.deepEqual(byteRange(header, 10), { kind: 'part', start, end }, header);
    }
  });

  it('is nothing beyond the end', () => {
    for (const header of ['bytes=10-', 'bytes=10-11', 'bytes=999999999999999-', 'bytes=-0']) {
      assert.deepEqual(byteRange(header, 10), { kind: 'beyond' }, header);
    }
    assert.deepEqual(byteRange('bytes=-5', 0), { kind: 'beyond' });
  });

  it('never leaves what is there, whatever is asked for', () => {
    fc.assert(
      fc.property(fc.string(), fc.option(fc.nat()), fc.option(fc.nat()), fc.nat(1000), (junk, first, last, size) => {
        for (const header of [junk, `bytes=${first ?? ''}-${last ?? ''}`, `bytes=${junk}`]) {
          const range = byteRange(header, size);
          if (range.kind === 'part') assert.ok(0 <= range.start && range.start < range.end && range.end <= size);
        }
      }),
    );
  });

  it('is of the version that somebody has', () => {
    const etag = '"sha256:1"';
    for (const header of [etag, `W/${etag}`, `"other", ${etag}`, '*'])
      assert.equal(matchesTag(header, etag), true, header);
    for (const header of [undefined, '', '"other"', 'sha256:1'])
      assert.equal(matchesTag(header, etag), false, String(header));
  });
});

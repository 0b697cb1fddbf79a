import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { startValue } from '../../src/cli/job/logs.ts';
import { StreamOffsets } from '../../src/cli/job/stream-offsets.ts';
import * as values from '../../src/cli/option-values.ts';

test('selectors: labels with and without value, ids, all of them', () => {
  assert.deepEqual(values.selectorValue('zone=eu, gpu,id:web-1,id:web-2,empty='), {
    matchLabels: { zone: 'eu', empty: '' },
    hasLabels: ['gpu'],
    agentIds: ['web-1', 'web-2'],
  });
  assert.deepEqual(values.selectorValue('*'), { matchLabels: {}, hasLabels: [], agentIds: [] });
  for (const text of ['', ' ', 'a,,b', '=x', 'a b', 'zone=a,zone=b', ','])
    assert.throws(() => values.selectorValue(text), text);
});

test('mounts are read-only unless told otherwise', () => {
  assert.deepEqual(values.mountValue('/a:/b', undefined), [{ source: '/a', target: '/b', writable: false }]);
  assert.equal(values.mountValue('vol:/b:rw', undefined)[0]!.writable, true);
  for (const text of ['/a', '/a:b', '/a:/b:rx', ':/b', '/a:/b:rw:x'])
    assert.throws(() => values.mountValue(text, undefined), text);
});

test('pairs, counts, numbers, sizes, durations', () => {
  assert.deepEqual(values.pairValue('a=b=c', { x: 'y' }), { x: 'y', a: 'b=c' });
  assert.throws(() => values.pairValue('=x', undefined));
  assert.equal(values.countValue(1, 5)('5'), 5);
  for (const text of ['0', '6', '1.5', '-1', '', 'x', '1e0']) assert.throws(() => values.countValue(1, 5)(text), text);
  assert.equal(values.positiveValue(4)('.5'), 0.5);
  for (const text of ['0', '5', '-1', 'x']) assert.throws(() => values.positiveValue(4)(text), text);
  assert.deepEqual(['256MiB', '256m', '1.5g', '42'].map(values.sizeValue), [268435456, 268435456, 1610612736, 42]);
  assert.throws(() => values.sizeValue('much'));
  assert.equal(values.durationValue('1h30m'), 5_400_000);
  assert.throws(() => values.durationValue('soon'));
  assert.throws(() => values.wordValue({ a: 1 })('toString'));
});

test('env files: comments, blank lines, values with signs; a wrong line is named', () => {
  assert.deepEqual(values.parseEnvFile('# c\nA=1\r\n\nB=x=y #z\n', 'f'), { A: '1', B: 'x=y #z' });
  assert.throws(() => values.parseEnvFile('A=1\nnope\n', 'f'), /f, line 2/);
});

test('log offsets: one for all, or one each', () => {
  assert.deepEqual(startValue('10'), { stdout: 10n, stderr: 10n });
  assert.deepEqual(startValue('stdout=10,stderr=0'), { stdout: 10n, stderr: 0n });
  for (const text of ['-1', 'x', 'stdin=1', 'stdout=']) assert.throws(() => startValue(text), text);
});

test('however a stream is cut and repeated, each byte comes once and holes are counted', () => {
  const piece = fc.record({ at: fc.nat(60), length: fc.nat(20) });
  fc.assert(
    fc.property(fc.array(piece), (pieces) => {
      const offsets = new StreamOffsets();
      const source = Uint8Array.from({ length: 80 }, (_, index) => index);
      let next = 0;
      for (const { at, length } of pieces) {
        const { missing, data } = offsets.take('e', 'stdout', BigInt(at), source.subarray(at, at + length));
        next += Number(missing);
        for (const byte of data) assert.equal(byte, next++);
        if (data.length === 0) assert.equal(missing, 0n);
      }
      assert.deepEqual(offsets.resumeFrom('e'), next === 0 ? {} : { stdout: BigInt(next) });
    }),
  );
});

test('a declared hole counts only what was not passed yet', () => {
  const offsets = new StreamOffsets();
  offsets.startAt('e', 'stdout', 10n);
  assert.equal(offsets.skip('e', 'stdout', 0n, 10n), 0n);
  assert.equal(offsets.skip('e', 'stdout', 5n, 15n), 5n);
  assert.equal(offsets.skip('e', 'stdout', 20n, 30n), 10n);
  assert.deepEqual(offsets.resumeFrom('e'), { stdout: 30n });
});

import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { CliIo, EXIT, exitCodeOf, toJson } from '../../src/cli/io.ts';
import { OutputWriter } from '../../src/cli/output-writer.ts';
import { plainText, renderTable } from '../../src/cli/table.ts';
import { GRPC_CODE, invalid, LonglineError, type Reason } from '../../src/core/errors.ts';
import { MemoryOutput } from './fixtures.ts';

function ioOn(tty: boolean, env: Record<string, string> = {}) {
  const stdout = new MemoryOutput(tty);
  const stderr = new MemoryOutput(tty);
  return { io: new CliIo({ stdin: process.stdin, stdout, stderr, env }), stdout, stderr };
}

test('a write waits for room', async () => {
  let release: (() => void) | undefined;
  const stream = new Writable({
    highWaterMark: 4,
    write: (_data, _encoding, done) => {
      release = () => done();
    },
  });
  const writer = new OutputWriter(stream);
  let written = false;
  const pending = writer.write('12345678').then(() => {
    written = true;
  });
  await new Promise(setImmediate);
  assert.equal(written, false);
  assert.ok(release !== undefined);
  release();
  await pending;
  assert.equal(written, true);
});

test('a reader that leaves ends waiting writes, later ones are dropped, nothing is thrown', async () => {
  const stream = new Writable({ highWaterMark: 1, write: () => undefined });
  const writer = new OutputWriter(stream);
  const pending = writer.write('stuck');
  stream.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  await pending;
  assert.ok(writer.closed.aborted);
  await writer.write('more');
  await writer.flush();
});

test('another failure of the stream is thrown by the write', async () => {
  const failure = Object.assign(new Error('no space left'), { code: 'ENOSPC' });
  const writer = new OutputWriter(new Writable({ write: (_data, _encoding, done) => done(failure) }));
  await writer.write('x');
  await assert.rejects(writer.flush(), /no space left/);
  await assert.rejects(writer.write('y'), /no space left/);
});

test('colour needs a terminal, and goes by NO_COLOR, TERM and --no-color', () => {
  assert.equal(ioOn(true).io.paint('red', 'x'), '\u001b[31mx\u001b[39m');
  assert.equal(ioOn(false).io.paint('red', 'x'), 'x');
  assert.equal(ioOn(true, { NO_COLOR: '1' }).io.paint('red', 'x'), 'x');
  assert.equal(ioOn(true, { TERM: 'dumb' }).io.paint('red', 'x'), 'x');
  const { io } = ioOn(true);
  io.configure({ json: false, color: false });
  assert.equal(io.paint('red', 'x'), 'x');
});

test('every reason has an exit code; an error sets it and is told on standard error', async () => {
  for (const reason of Object.keys(GRPC_CODE) as Reason[]) assert.ok(exitCodeOf(reason) > 0, reason);
  const { io, stdout, stderr } = ioOn(false);
  await io.fail(
    invalid([
      { field: 'a', description: 'is x' },
      { field: 'b', description: 'is y' },
    ]),
  );
  assert.equal(io.exitCode, EXIT.usage);
  assert.match(stderr.text, /a: is x\n.*b: is y/);
  assert.equal(stdout.text, '');
});

test('a JSON error is one object with its violations', async () => {
  const { io, stderr } = ioOn(false);
  io.configure({ json: true, color: true });
  await io.fail(new LonglineError('policy', 'no', { rule: 'images' }));
  assert.deepEqual(JSON.parse(stderr.text), {
    error: { reason: 'policy', message: 'no', retryable: false, violations: [], rule: 'images' },
  });
});

test('JSON keeps large integers exact and writes bytes as base64', () => {
  assert.equal(toJson({ a: 5n, b: 2n ** 60n, c: Uint8Array.of(1, 2) }), '{"a":5,"b":"1152921504606846976","c":"AQI="}');
});

test('a table fits its terminal and shows no control characters', () => {
  const items = [
    { name: 'a\u001b[31m', count: 5 },
    { name: 'longer', count: 1000 },
  ];
  const columns = [
    { heading: 'name', value: (item: { name: string }) => item.name },
    { heading: 'count', align: 'right' as const, value: (item: { count: number }) => String(item.count) },
  ];
  const table = renderTable(items, columns);
  assert.ok(!table.includes('\u001b'));
  assert.deepEqual(
    table
      .split('\n')
      .map((line) => line.length)
      .slice(0, 3),
    [13, 13, 13],
  );
  assert.ok(
    renderTable(items, columns, { width: 8 })
      .split('\n')
      .every((line) => line.length <= 8),
  );
  assert.equal(plainText('a\nb\u0007'), 'a b\ufffd');
});

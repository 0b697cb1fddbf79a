import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import type { OutputPiece, StreamName } from '../../../src/capabilities/jobs/ports.ts';
import { LonglineError, type Reason } from '../../../src/core/errors.ts';
import { Demultiplexer, demultiplex } from '../../../src/platform/docker/demultiplexer.ts';

interface Frame {
  readonly stream: StreamName;
  readonly data: Uint8Array;
}

function encode(frames: readonly Frame[]): Buffer {
  return Buffer.concat(frames.map(({ stream, data }) => header(stream === 'stderr' ? 2 : 1, data)));
}

function header(kind: number, data: Uint8Array): Buffer {
  const frame = Buffer.alloc(8 + data.length);
  frame[0] = kind;
  frame.writeUInt32BE(data.length, 4);
  frame.set(data, 8);
  return frame;
}

/** Neighbouring bytes of one stream as one piece: what is left when chunking and framing are forgotten. */
function joined(pieces: readonly Frame[]): { stream: StreamName; hex: string }[] {
  const runs: { stream: StreamName; hex: string }[] = [];
  for (const { stream, data } of pieces) {
    const hex = Buffer.from(data).toString('hex');
    if (hex === '') continue;
    const last = runs.at(-1);
    if (last?.stream === stream) last.hex += hex;
    else runs.push({ stream, hex });
  }
  return runs;
}

function feed(bytes: Buffer, cuts: readonly number[]): Frame[] {
  const demultiplexer = new Demultiplexer();
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  const seen: Frame[] = [];
  let start = 0;
  for (const end of [...ends, bytes.length]) {
    // A copy, as a socket would give: the demultiplexer may rearrange it.
    const pieces = demultiplexer.push(Buffer.from(bytes.subarray(start, end)));
    seen.push(...pieces.map(({ stream, data }) => ({ stream, data: Uint8Array.from(data) })));
    start = end;
  }
  demultiplexer.end();
  return seen;
}

function throwsWith(work: () => unknown, reason: Reason, message: RegExp): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof LonglineError);
    assert.equal(error.reason, reason);
    assert.match(error.message, message);
    return true;
  });
}

const frame = fc.record({
  stream: fc.constantFrom<StreamName>('stdout', 'stderr'),
  data: fc.oneof(
    fc.uint8Array({ maxLength: 100 }),
    fc.integer({ min: 0, max: 20_000 }).map((size) => new Uint8Array(size).fill(size & 0xff)),
  ),
});

suite('demultiplexer', () => {
  test('gives the same bytes in the same order under any chunking', () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 30 }), fc.array(fc.nat(), { maxLength: 40 }), (frames, cuts) => {
        assert.deepEqual(joined(feed(encode(frames), cuts)), joined(frames));
      }),
      { numRuns: 500 },
    );
  });

  test('gives the same bytes cut at every single byte, and one byte at a time', () => {
    const frames: Frame[] = [
      { stream: 'stdout', data: Buffer.from('a\0b') },
      { stream: 'stdout', data: Buffer.alloc(0) },
      { stream: 'stderr', data: Buffer.from([0xff, 0xfe, 0x80]) },
      { stream: 'stdout', data: Buffer.from('x'.repeat(70)) },
      { stream: 'stdout', data: Buffer.from('tail') },
    ];
    const bytes = encode(frames);
    for (let cut = 0; cut <= bytes.length; cut++) assert.deepEqual(joined(feed(bytes, [cut])), joined(frames));
    assert.deepEqual(joined(feed(bytes, [...bytes.keys()])), joined(frames));
  });

  test('makes few pieces of many short lines, as views into the chunk', () => {
    const chunk = encode(Array.from({ length: 1000 }, (_, n) => ({ stream: 'stdout', data: Buffer.from(`${n}\n`) })));
    const pieces = new Demultiplexer().push(chunk);
    assert.equal(pieces.length, 1);
    assert.equal(pieces[0]!.data.buffer, chunk.buffer);
    assert.match(Buffer.from(pieces[0]!.data).toString(), /^0\n1\n2\n[\d\n]+\n999\n$/);
  });

  test('does not wait for the end of a frame, whatever its size', () => {
    const demultiplexer = new Demultiplexer();
    const start = header(1, Buffer.alloc(0));
    start.writeUInt32BE(0xffff_ffff, 4);
    assert.equal(demultiplexer.push(start).length, 0);
    for (let round = 0; round < 3; round++) assert.equal(demultiplexer.push(Buffer.alloc(1000))[0]!.data.length, 1000);
    throwsWith(() => demultiplexer.end(), 'unavailable', /inside a frame/);
  });

  test('refuses what cannot be a header', () => {
    for (const bytes of [
      [4, 0, 0, 0, 0, 0, 0, 1],
      [1, 1, 0, 0, 0, 0, 0, 1],
      [1, 0, 0, 9, 0, 0, 0, 1],
      [0x48, 0x54, 0x54, 0x50, 0, 0, 0, 0],
    ]) {
      const hex = new RegExp(Buffer.from(bytes).toString('hex'));
      throwsWith(() => new Demultiplexer().push(Buffer.from(bytes)), 'internal', hex);
      throwsWith(() => feed(Buffer.from(bytes), [3]), 'internal', hex);
    }
  });

  test("throws the engine's own error, which comes as a stream of its own", () => {
    const bytes = Buffer.concat([header(1, Buffer.from('ok')), header(3, Buffer.from('log driver broke'))]);
    throwsWith(() => feed(bytes, []), 'unavailable', /log driver broke/);
    throwsWith(() => feed(bytes, [12, 20, 25]), 'unavailable', /log driver broke/);
    throwsWith(() => feed(header(3, Buffer.alloc(0)), []), 'unavailable', /no message/);
  });

  test('says when the stream is cut inside a header', () => {
    throwsWith(() => feed(Buffer.from([1, 0, 0]), []), 'unavailable', /inside a frame/);
  });

  test('pulls a chunk only when the reader wants more, and lets go of the source when the reader leaves', async () => {
    let pulled = 0;
    let closed = false;
    async function* source() {
      try {
        for (;;) {
          pulled += 1;
          yield encode([{ stream: 'stdout', data: Buffer.from('line\n') }]);
        }
      } finally {
        closed = true;
      }
    }
    const seen: OutputPiece[] = [];
    for await (const piece of demultiplex(source())) {
      seen.push(piece);
      assert.equal(pulled, seen.length);
      if (seen.length === 5) break;
    }
    assert.ok(closed);
  });
});

import assert from 'node:assert/strict';
import { appendFile, mkdtemp, open, readdir, readFile, rm, stat, truncate, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { FileLogStore, type FileLogStoreOptions } from '../../../src/controller/logs/file-log-store.ts';
import type { LogCursor, LogPart } from '../../../src/controller/logs/log-store.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { assemble, chunk, closeOf, gap } from './reference-log.ts';

const KEY = { logId: '0190aaaa-0000-7000-8000-00000000abcd', attempt: 1 };
const ALL = { from: new Map<string, number>(), streams: new Set<string>() };

async function drain(cursor: LogCursor | undefined): Promise<LogPart[]> {
  const parts: LogPart[] = [];
  for (;;) {
    const more = await cursor!.read();
    if (more.length === 0) return parts;
    parts.push(...more);
  }
}

async function segmentFiles(root: string): Promise<string[]> {
  const names = await readdir(root, { recursive: true });
  return names
    .filter((name) => name.endsWith('.segment'))
    .map((name) => join(root, name))
    .sort();
}

/** Cuts the last segment at a fraction of its length and leaves half a record behind. */
async function tearLast(root: string, cutAt: number): Promise<void> {
  const last = (await segmentFiles(root)).at(-1)!;
  await truncate(last, Math.floor((await stat(last)).size * cutAt));
  await appendFile(last, Buffer.from('torn'));
}

describe('file log store', () => {
  let root: string;
  let store: FileLogStore;
  const begin = (options?: FileLogStoreOptions) => new FileLogStore(root, silentLogger, options);

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'longline-logs-'));
    store = begin();
  });
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    await rm(root, { recursive: true, force: true });
  });

  const write = async (parts: Parameters<Awaited<ReturnType<FileLogStore['writer']>>['append']>[0]) => {
    const writer = await store.writer(KEY);
    try {
      return await writer.append(parts);
    } finally {
      writer.release();
    }
  };

  it('gives back bytes, order across streams, gaps and close as they came', async () => {
    const writer = await store.writer(KEY);
    await writer.append({ chunks: [chunk('stdout', 0, 'one\0'), chunk('stderr', 0, 'bad\xff')], gaps: [] });
    await writer.append({ chunks: [chunk('stdout', 9, 'two')], gaps: [gap('stdout', 4, 9)] });
    assert.equal(writer.durableOffsets().size, 0);
    await writer.sync();
    assert.deepEqual(
      [...writer.durableOffsets()],
      [
        ['stdout', 12],
        ['stderr', 5],
      ],
    );
    const close = closeOf({ stderr: Buffer.from('bad\xff') });
    close.streams.push(...closeOf({ stdout: Buffer.from('one\0two') }, 5).streams);
    await writer.close(close);
    assert.equal(writer.closed, true);
    writer.release();
    const parts = await drain(await store.cursor(KEY, ALL));
    assert.deepEqual(
      parts.map((part) => part.case),
      ['chunk', 'chunk', 'gap', 'chunk', 'close'],
    );
    assert.equal(assemble(parts, 'stdout').toString(), 'one\0two');
    assert.deepEqual(assemble(parts, 'stderr'), Buffer.from('bad\xff'));
  });

  it('refuses holes and damaged chunks whole, and says where to go on', async () => {
    await write({ chunks: [chunk('stdout', 0, 'abc')], gaps: [] });
    await assert.rejects(write({ chunks: [chunk('stdout', 3, 'd'), chunk('stdout', 9, 'x')], gaps: [] }), (error) => {
      assert.ok(error instanceof LonglineError);
      assert.equal(error.reason, 'invalid');
      assert.match(error.message, /stdout is stored up to 4, this begins at 9/);
      return true;
    });
    const damaged = chunk('stdout', 3, 'def');
    damaged.crc32c += 1;
    await assert.rejects(write({ chunks: [damaged], gaps: [] }), /CRC-32C/);
    await assert.rejects(write({ chunks: [], gaps: [gap('stdout', 5, 6)] }), /stored up to 3/);
    assert.equal(assemble(await drain(await store.cursor(KEY, ALL)), 'stdout').toString(), 'abc');
  });

  it('keeps what a wrong close disputed until it is sent anew from 0', async () => {
    const writer = await store.writer(KEY);
    await writer.append({ chunks: [chunk('stdout', 0, 'abc')], gaps: [] });
    const reader = await store.cursor(KEY, ALL);
    assert.equal(assemble(await drain(reader), 'stdout').toString(), 'abc');
    await assert.rejects(writer.close(closeOf({ stdout: Buffer.from('abX') })), /sha256/);
    assert.deepEqual([...writer.durableOffsets()], []);
    writer.release();
    await store[Symbol.asyncDispose]();
    store = begin();
    const again = await store.writer(KEY);
    assert.deepEqual([...again.durableOffsets()], []);
    assert.equal(assemble(await drain(await store.cursor(KEY, ALL)), 'stdout').toString(), 'abc');
    await again.append({ chunks: [chunk('stdout', 0, 'abX')], gaps: [] });
    await again.close(closeOf({ stdout: Buffer.from('abX') }));
    again.release();
    assert.equal(assemble(await drain(await store.cursor(KEY, ALL)), 'stdout').toString(), 'abX');
  });

  it('tells a reader whose log was taken anew', async () => {
    const writer = await store.writer(KEY);
    await writer.append({ chunks: [chunk('stdout', 0, 'abc')], gaps: [] });
    const reader = await store.cursor(KEY, ALL);
    await drain(reader);
    await assert.rejects(writer.close(closeOf({})), /doesn't name stream stdout/);
    await writer.append({ chunks: [chunk('stdout', 0, 'abcdef')], gaps: [] });
    writer.release();
    await assert.rejects(reader!.read(), /read it again/);
  });

  it('replaces old logs by declared gaps', async () => {
    const writer = await store.writer(KEY);
    await writer.append({ chunks: [chunk('stdout', 0, 'abc')], gaps: [] });
    await writer.close(closeOf({ stdout: Buffer.from('abc') }));
    writer.release();
    await store[Symbol.asyncDispose]();
    store = begin();
    for (const file of await readdir(root, { recursive: true })) await utimes(join(root, file), 1000, 1000);
    let looks = 0;
    assert.equal(await store.prune(Date.now() - 3_600_000, undefined, () => void looks++), 1);
    assert.equal(looks, 1);
    const parts = await drain(await store.cursor(KEY, ALL));
    assert.deepEqual(
      parts.map((part) => part.case),
      ['gap', 'close'],
    );
    assert.equal(parts[0]?.case === 'gap' && parts[0].value.to, 3n);
    assert.equal(await store.latestAttempt(KEY.logId), 1);
    await store.delete(KEY.logId);
    assert.equal(await store.cursor(KEY, ALL), undefined);
    assert.equal(await store.latestAttempt(KEY.logId), undefined);
  });

  it('refuses ids that would leave the folder', async () => {
    for (const logId of ['..', '../x', 'a/b', '', 'x'.repeat(129)]) {
      await assert.rejects(store.writer({ logId, attempt: 1 }), /log id/);
    }
    await assert.rejects(store.writer({ logId: 'a', attempt: 0 }), /attempt/);
  });

  it('keeps few files open and reads what was put aside', async () => {
    await store[Symbol.asyncDispose]();
    store = begin({ maxIdleLogs: 3 });
    for (let i = 0; i < 20; i++) {
      const writer = await store.writer({ logId: `log-${i}`, attempt: 1 });
      await writer.append({ chunks: [chunk('stdout', 0, `line ${i}`)], gaps: [] });
      writer.release();
    }
    for (let i = 0; i < 20; i++) {
      const parts = await drain(await store.cursor({ logId: `log-${i}`, attempt: 1 }, ALL));
      assert.equal(assemble(parts, 'stdout').toString(), `line ${i}`);
    }
  });

  it('drops whole records at the tail that do not follow on', async () => {
    await write({ chunks: [chunk('stdout', 0, 'abc')], gaps: [] });
    await store[Symbol.asyncDispose]();
    const [file] = await segmentFiles(root);
    const first = await readFile(file!);
    store = begin();
    await write({ chunks: [chunk('stdout', 3, 'def')], gaps: [] });
    await store[Symbol.asyncDispose]();
    await appendFile(file!, first);
    store = begin();
    const writer = await store.writer(KEY);
    assert.deepEqual([...writer.durableOffsets()], [['stdout', 6]]);
    await writer.close(closeOf({ stdout: Buffer.from('abcdef') }));
    writer.release();
  });

  it('finds any byte of a long log through its index, also after it was opened again', async () => {
    const bytes = { stdout: Buffer.alloc(900_000), stderr: Buffer.alloc(90_000) };
    for (let at = 0; at < bytes.stdout.length; at++) bytes.stdout[at] = (at * 31 + (at >> 8)) & 255;
    for (let at = 0; at < bytes.stderr.length; at++) bytes.stderr[at] = (at * 17) & 255;
    await store[Symbol.asyncDispose]();
    store = begin({ segmentBytes: 200_000 });
    const writer = await store.writer(KEY);
    for (let step = 0; step < 300; step++) {
      const out = bytes.stdout.subarray(step * 3000, (step + 1) * 3000);
      const err = bytes.stderr.subarray(step * 300, (step + 1) * 300);
      await writer.append({ chunks: [chunk('stdout', step * 3000, out), chunk('stderr', step * 300, err)], gaps: [] });
      if (step % 50 === 0) await writer.sync();
    }
    writer.release();
    const check = async () => {
      for (const [out, err] of [
        [0, 89_999],
        [450_001, 10],
        [899_999, 45_000],
        [123_456, 90_000],
      ] as const) {
        const from = new Map([
          ['stdout', out],
          ['stderr', err],
        ]);
        const parts = await drain(await store.cursor(KEY, { from, streams: new Set() }));
        assert.deepEqual(assemble(parts, 'stdout', out), bytes.stdout.subarray(out));
        assert.deepEqual(assemble(parts, 'stderr', err), bytes.stderr.subarray(err));
      }
    };
    await check();
    await store[Symbol.asyncDispose]();
    store = begin({ segmentBytes: 200_000 });
    await check();
    // An index that is torn, gone, or knows more than the segments hold must not mislead.
    for (const harm of ['torn', 'gone', 'cut'] as const) {
      await store[Symbol.asyncDispose]();
      const index = (await readdir(root, { recursive: true })).find((name) => name.endsWith('index'))!;
      if (harm === 'torn') await truncate(join(root, index), 300);
      if (harm === 'gone') await rm(join(root, index));
      if (harm === 'cut') for (const file of (await segmentFiles(root)).slice(2)) await rm(file);
      store = begin({ segmentBytes: 200_000 });
      const again = await store.writer(KEY);
      for (const stream of ['stdout', 'stderr'] as const) {
        for (let at = again.durableOffsets().get(stream)!; at < bytes[stream].length; at += 30_000) {
          await again.append({ chunks: [chunk(stream, at, bytes[stream].subarray(at, at + 30_000))], gaps: [] });
        }
      }
      await again.sync();
      again.release();
      await check();
    }
    await store[Symbol.asyncDispose]();
    store = begin({ segmentBytes: 200_000 });
    await check();
    const closing = await store.writer(KEY);
    await closing.close(closeOf(bytes));
    closing.release();
  });

  it('declares damage in the middle and reads on behind it', async () => {
    const piece = Buffer.alloc(30_000, 7);
    const writer = await store.writer(KEY);
    for (let i = 0; i < 20; i++) await writer.append({ chunks: [chunk('stdout', i * piece.length, piece)], gaps: [] });
    await writer.close(closeOf({ stdout: Buffer.concat(Array(20).fill(piece)) }));
    writer.release();
    await store[Symbol.asyncDispose]();
    const [file] = await segmentFiles(root);
    const handle = await open(file!, 'r+');
    await handle.write(Buffer.from('XXXX'), 0, 4, 100_000);
    await handle.close();
    store = begin();
    const parts = await drain(await store.cursor(KEY, ALL));
    const lost = parts.filter((part) => part.case === 'gap');
    assert.equal(lost.length, 1);
    const kept = assemble(parts, 'stdout');
    assert.equal(kept.length + Number(lost[0]!.value.to - lost[0]!.value.from), 600_000);
    assert.equal(parts.at(-1)?.case, 'close');
  });

  it('takes any chunking with repeats, and survives a cut at any byte', async () => {
    const operation = fc.record({
      stream: fc.constantFrom('stdout', 'stderr'),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 700 }),
      back: fc.nat(400),
      sync: fc.boolean(),
      lost: fc.nat({ max: 1 }),
    });
    const property = fc.asyncProperty(
      fc.array(operation, { minLength: 1, maxLength: 30 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.nat(3000),
      async (operations, cutAt, from) => {
        await store[Symbol.asyncDispose]();
        await rm(root, { recursive: true, force: true });
        store = begin({ segmentBytes: 1500 });
        const expected: Record<string, Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
        const send = async (stream: string, upTo: number, back: number) => {
          const begins = Math.max(0, upTo - back);
          return await write({ chunks: [chunk(stream, begins, expected[stream]!.subarray(begins))], gaps: [] });
        };
        for (const { stream, bytes, back, sync } of operations) {
          const length = expected[stream]!.length;
          expected[stream] = Buffer.concat([expected[stream]!, bytes]);
          await send(stream, length, back);
          assert.equal(await send(stream, length, back), false);
          if (!sync) continue;
          const writer = await store.writer(KEY);
          await writer.sync();
          writer.release();
        }
        await store[Symbol.asyncDispose]();
        await tearLast(root, cutAt);
        store = begin({ segmentBytes: 1500 });
        const writer = await store.writer(KEY);
        const kept = writer.durableOffsets();
        for (const stream of ['stdout', 'stderr']) {
          const read = assemble(
            await drain(await store.cursor(KEY, { from: new Map(), streams: new Set([stream]) })),
            stream,
          );
          assert.equal(read.length, kept.get(stream) ?? 0);
          assert.deepEqual(read, expected[stream]!.subarray(0, read.length));
          if (expected[stream]!.length > read.length) await send(stream, read.length, 0);
        }
        const present = Object.fromEntries(Object.entries(expected).filter(([, bytes]) => bytes.length > 0));
        await writer.close(closeOf(present));
        writer.release();
        const start = Math.min(from, expected['stdout']!.length);
        const tail = await drain(
          await store.cursor(KEY, { from: new Map([['stdout', start]]), streams: new Set(['stdout']) }),
        );
        assert.deepEqual(assemble(tail, 'stdout', start), expected['stdout']!.subarray(start));
        assert.equal(tail.at(-1)?.case, 'close');
      },
    );
    await fc.assert(property, { numRuns: 60 });
  });

  it('gives a reader that keeps up what is appended without reading it back', async () => {
    const writer = await store.writer(KEY);
    await writer.append({ chunks: [chunk('stdout', 0, 'first')], gaps: [] });
    const cursor = (await store.cursor(KEY, ALL))!;
    assert.equal((await drain(cursor)).length, 1);
    await writer.append({ chunks: [chunk('stdout', 5, 'second')], gaps: [gap('stdout', 11, 20)] });
    // What is read from here on can't come from disk.
    await truncate((await segmentFiles(root)).at(-1)!, 0);
    const close = closeOf({ stdout: Buffer.from('firstsecond') }, 9);
    await writer.close(close);
    const parts = await drain(cursor);
    assert.deepEqual(
      parts.map((part) => part.case),
      ['chunk', 'gap', 'close'],
    );
    assert.equal(assemble(parts, 'stdout', 5).toString(), 'second');
    writer.release();
  });

  it('gives a reader that falls far behind everything all the same', async () => {
    const writer = await store.writer(KEY);
    const block = 'x'.repeat(64 * 1024);
    const blocks = 70;
    const cursor = (await store.cursor(KEY, ALL))!;
    let at = 0;
    const put = async () => {
      await writer.append({ chunks: [chunk('stdout', at, block)], gaps: [] });
      at += block.length;
    };
    await put();
    const parts = [...(await drain(cursor))];
    for (let count = 0; count < blocks; count++) {
      await put();
      if (count % 3 === 0 && (count < 6 || count > 60)) parts.push(...(await cursor.read()));
    }
    parts.push(...(await drain(cursor)));
    writer.release();
    assert.equal(assemble(parts, 'stdout').length, at);
  });
});

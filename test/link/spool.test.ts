import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, open as openOnDisk, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { OutputLogs } from '../../src/capabilities/jobs/ports.ts';
import { crc32c } from '../../src/core/crc32c.ts';
import { LonglineError } from '../../src/core/errors.ts';
import { silentLogger } from '../../src/core/logger.ts';
import { LogCursor } from '../../src/link/log-cursor.ts';
import { LogSpool, type SpoolLimits, type StreamName } from '../../src/link/log-spool.ts';
import type { OpenFile } from '../../src/link/record-file.ts';
import type { SpoolGap } from '../../src/link/spool-record.ts';
import type { SpooledLog } from '../../src/link/spooled-log.ts';
import { scratchFolder, until } from './scratch.ts';

const ROOMY: SpoolLimits = { maxBytes: 1e9, maxLogBytes: 1e9, segmentBytes: 1e6 };

function openSpool(folder: string, limits: Partial<SpoolLimits> = {}, openFile?: OpenFile): Promise<LogSpool> {
  return LogSpool.open({
    folder,
    log: silentLogger,
    limits: { ...ROOMY, ...limits },
    ...(openFile !== undefined && { openFile }),
  });
}

/** Everything a cursor gives from `from` on, checked for CRC and for offsets that neither overlap nor leave a hole. */
async function readAll(log: SpooledLog, from: ReadonlyMap<string, number> = new Map()) {
  const bytes = new Map<string, Buffer[]>();
  const gaps: SpoolGap[] = [];
  const at = new Map(from);
  await using cursor = new LogCursor(log, from);
  for (let batch = await cursor.next(50_000); batch !== undefined; batch = await cursor.next(50_000)) {
    const parts = [
      ...batch.chunks.map((chunk) => ({ ...chunk, from: chunk.offset, to: chunk.offset + chunk.data.length })),
      ...batch.gaps.map((gap) => ({ ...gap, data: undefined })),
    ].toSorted((left, right) => left.from - right.from);
    for (const part of parts) {
      assert.equal(part.from, at.get(part.stream) ?? 0, `hole or overlap in ${part.stream}`);
      at.set(part.stream, part.to);
      if (part.data === undefined) continue;
      assert.equal(part.crc32c, crc32c(part.data));
      bytes.set(part.stream, [...(bytes.get(part.stream) ?? []), Buffer.from(part.data)]);
    }
    gaps.push(...batch.gaps);
  }
  const text = (stream: string) => Buffer.concat(bytes.get(stream) ?? []);
  return { stdout: text('stdout'), stderr: text('stderr'), gaps, lengths: at };
}

const only = (spool: LogSpool) => [...spool.logs()][0]!;
const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');
const piece = (stream: StreamName, data: Uint8Array) => ({ stream, data });

describe('log spool', () => {
  it('serves the jobs capability as its OutputLogs', async () => {
    await using folder = await scratchFolder();
    await using spool = await openSpool(folder.path);
    const logs: OutputLogs = spool;
    const log = await logs.open('x');
    await log.append(piece('stdout', Buffer.from('hello')), 1);
    assert.deepEqual(
      (await log.close()).map(({ stream, lengthBytes, gapBytes }) => ({ stream, lengthBytes, gapBytes })),
      [{ stream: 'stdout', lengthBytes: 5, gapBytes: 0 }],
    );
  });

  it('keeps bytes, order and digests under any chunking, restart points and gaps', async () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ stream: fc.constantFrom('stdout', 'stderr'), size: fc.nat(150_000) }) },
      {
        weight: 1,
        arbitrary: fc.record({ stream: fc.constantFrom('stdout', 'stderr'), gap: fc.integer({ min: 1, max: 99_999 }) }),
      },
      { weight: 1, arbitrary: fc.constant({ reopen: true }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        await using folder = await scratchFolder();
        let spool = await openSpool(folder.path, { segmentBytes: 100_000 });
        let log = await spool.open('x');
        const kept = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
        const length = { stdout: 0, stderr: 0 };
        let seed = 1;
        for (const action of steps) {
          if ('reopen' in action) {
            await spool[Symbol.asyncDispose]();
            spool = await openSpool(folder.path, { segmentBytes: 100_000 });
            log = await spool.open('x');
          } else if ('gap' in action) {
            await log.gap(action.stream as StreamName, action.gap, 'unrecoverable');
            length[action.stream as StreamName] += action.gap;
          } else {
            const data = Buffer.allocUnsafe(action.size);
            for (let index = 0; index < data.length; index++) {
              seed = (seed * 48_271) % 2_147_483_647;
              data[index] = seed & 255;
            }
            kept[action.stream as StreamName].push(Buffer.from(data));
            await log.append(piece(action.stream as StreamName, data), 5);
            data.fill(0);
            length[action.stream as StreamName] += action.size;
          }
          assert.equal(log.length('stdout'), length.stdout);
          assert.equal(log.length('stderr'), length.stderr);
        }
        await log.close();
        const found = await readAll(only(spool));
        for (const stream of ['stdout', 'stderr'] as const) {
          const bytes = Buffer.concat(kept[stream]);
          assert.ok(found[stream].equals(bytes), `${stream} differs`);
          const summary = only(spool).summary!.find((one) => one.stream === stream);
          if (length[stream] === 0) assert.equal(summary, undefined);
          else {
            const gapBytes = length[stream] - bytes.length;
            assert.deepEqual(summary, { stream, lengthBytes: length[stream], gapBytes, sha256: sha256(bytes) });
          }
        }
        await spool[Symbol.asyncDispose]();
      }),
      { numRuns: 25 },
    );
  });

  it('frees no segment that the controller lacks, however many need room at once', async () => {
    await using folder = await scratchFolder();
    await using spool = await openSpool(folder.path, { segmentBytes: 150 });
    const log = await spool.open('x');
    for (let number = 0; number < 12; number++) {
      await log.append(piece('stdout', Buffer.from(`line ${number} `.padEnd(40, '.'))), 1);
      while (only(spool).writtenLengths().get('stdout') !== log.length('stdout')) await new Promise(setImmediate);
    }
    const { segments } = only(spool);
    assert.ok(segments.length > 3);
    const stored = new Map([['stdout', segments[1]!.start['stdout']!]]);
    only(spool).acknowledge(stored);
    const before = segments.map(({ number }) => number);
    const freed = await Promise.all([1, 2, 3].map(() => only(spool).freeAcknowledged()));
    assert.equal(freed.filter((bytes) => bytes > 0).length, 1);
    assert.deepEqual(
      only(spool).segments.map(({ number }) => number),
      before.slice(1),
    );
    assert.deepEqual((await readAll(only(spool), stored)).gaps, []);
  });

  it('goes on from any offset, in the middle of chunks and gaps too', async () => {
    await using folder = await scratchFolder();
    await using spool = await openSpool(folder.path, { segmentBytes: 150 });
    const log = await spool.open('x');
    for (const text of ['one', 'twelve', 'hundred']) {
      await log.append(piece('stdout', Buffer.from(text)), 1);
      await log.gap('stdout', 4, 'unrecoverable');
      while (only(spool).writtenLengths().get('stdout') !== log.length('stdout')) await new Promise(setImmediate);
    }
    await log.close();
    assert.ok(only(spool).segments.length > 1);
    const whole = 'one....twelve....hundred....';
    for (let from = 0; from <= whole.length; from++) {
      const found = await readAll(only(spool), new Map([['stdout', from]]));
      assert.equal(String(found.stdout), whole.slice(from).replaceAll('.', ''), `from ${from}`);
      assert.equal(found.lengths.get('stdout'), whole.length);
      assert.ok(found.gaps.every(({ reason }) => reason === 'unrecoverable'));
    }
  });

  it('closes logs that nobody goes on with, with the right digests, and leaves the others', async () => {
    await using folder = await scratchFolder();
    for (const id of ['orphan', 'alive']) {
      await using spool = await openSpool(folder.path);
      await (await spool.open(id)).append(piece('stderr', Buffer.from('left behind')), 1);
    }
    await using spool = await openSpool(folder.path);
    await spool.closeOrphans(new Set(['alive']));
    const summaries = new Map([...spool.logs()].map((log) => [log.name.id, log.summary]));
    assert.equal(summaries.get('alive'), undefined);
    assert.deepEqual(summaries.get('orphan'), [
      { stream: 'stderr', lengthBytes: 11, gapBytes: 0, sha256: sha256(Buffer.from('left behind')) },
    ]);
  });

  it('joins small pieces into large chunks and never makes one above 64 KiB', async () => {
    await using folder = await scratchFolder();
    await using spool = await openSpool(folder.path);
    const log = await spool.open('x');
    const line = Buffer.from(`${'x'.repeat(99)}\n`);
    for (let index = 0; index < 20_000; index++) await log.append(piece('stdout', line), index);
    await log.append(piece('stdout', Buffer.alloc(10_000_000, 'y')), 1);
    await log.close();
    await using cursor = new LogCursor(only(spool), new Map());
    let chunks = 0;
    let total = 0;
    for (let batch = await cursor.next(65_536); batch !== undefined; batch = await cursor.next(65_536)) {
      for (const { data } of batch.chunks) assert.ok(data.length <= 65_536);
      chunks += batch.chunks.length;
      total += batch.dataBytes;
    }
    assert.equal(total, 12_000_000);
    assert.ok(chunks < 600, `${chunks} chunks`);
  });

  it('frees what is acknowledged first, declares the rest as gaps, and still knows the digest after a restart', async () => {
    await using folder = await scratchFolder();
    const limits = { maxLogBytes: 300_000, segmentBytes: 50_000 };
    let spool = await openSpool(folder.path, limits);
    let log = await spool.open('x');
    const kept: Buffer[] = [];
    const write = async (index: number) => {
      const data = Buffer.alloc(10_000, index);
      kept.push(data);
      await log.append(piece('stdout', data), 1);
    };
    const settled = async () => {
      while (only(spool).writtenLengths().get('stdout') !== log.length('stdout')) await new Promise(setImmediate);
    };
    for (let index = 0; index < 60; index++) {
      await write(index);
      await settled();
      only(spool).acknowledge(new Map([['stdout', log.length('stdout')]]));
    }
    assert.ok(only(spool).sizeBytes <= 300_000);
    assert.ok(!only(spool).complete, 'acknowledged segments were freed');
    await spool[Symbol.asyncDispose]();
    spool = await openSpool(folder.path, limits);
    log = await spool.open('x');
    assert.equal(log.length('stdout'), 600_000);
    for (let index = 0; index < 60; index++) {
      // Nothing is acknowledged from here on.
      const data = Buffer.alloc(10_000, index);
      await log.append(piece('stdout', data), 1);
    }
    const [closed] = await log.close();
    assert.equal(closed?.lengthBytes, 1_200_000);
    assert.ok(closed!.gapBytes > 0, 'what did not fit was declared');
    const from = new Map([['stdout', 600_000]]);
    const found = await readAll(only(spool), from);
    assert.equal(found.lengths.get('stdout'), 1_200_000);
    assert.ok(found.gaps.every((gap) => gap.reason === 'spool_full'));
    assert.equal(
      found.gaps.reduce((sum, gap) => sum + gap.to - gap.from, 0),
      closed!.gapBytes,
    );
    assert.ok(only(spool).sizeBytes < 310_000, `${only(spool).sizeBytes} bytes on disk`);
    const expected = sha256(Buffer.concat([...kept, found.stdout]));
    assert.equal(only(spool).summary![0]!.sha256, expected);
    await spool[Symbol.asyncDispose]();
  });

  it('bounds all logs together', async () => {
    await using folder = await scratchFolder();
    await using spool = await openSpool(folder.path, { maxBytes: 500_000, segmentBytes: 50_000 });
    const gaps: number[] = [];
    for (let index = 0; index < 10; index++) {
      const log = await spool.open(`log-${index}`);
      await log.append(piece('stdout', Buffer.alloc(100_000, 1)), 1);
      gaps.push((await log.close())[0]!.gapBytes);
    }
    assert.equal(gaps[0], 0);
    assert.equal(gaps.at(-1), 100_000);
    assert.ok(spool.sizeBytes < 700_000, `${spool.sizeBytes}`);
    for (const log of [...spool.logs()]) await spool.remove(log);
    assert.equal(spool.sizeBytes, 0);
    assert.deepEqual(await readdir(folder.path), []);
  });

  it('recovers to the last good record at every cut, and reports it', async () => {
    await using folder = await scratchFolder();
    {
      await using spool = await openSpool(folder.path);
      const log = await spool.open('x');
      for (const text of ['one', 'two', 'three']) {
        await log.append(piece('stdout', Buffer.from(text)), 1);
        while (only(spool).writtenLengths().get('stdout') !== log.length('stdout')) await new Promise(setImmediate);
      }
    }
    const path = join(folder.path, 'x~1', '00000001.segment');
    const whole = await readFile(path);
    const lengths = new Set<number>();
    for (let cut = whole.length; cut >= 0; cut -= 1) {
      await writeFile(path, whole);
      await truncate(path, cut);
      await using spool = await openSpool(folder.path);
      const log = await spool.open('x');
      lengths.add(log.length('stdout'));
      const good = 'onetwothree'.slice(0, log.length('stdout'));
      await log.append(piece('stdout', Buffer.from('!')), 1);
      await log.close();
      assert.equal(String((await readAll(only(spool))).stdout), `${good}!`);
      await spool.remove(only(spool));
      await mkdir(join(folder.path, 'x~1'));
    }
    assert.deepEqual([...lengths], [11, 6, 3, 0]);
  });

  it('declares damage in the middle as a gap, and its digests then fit what can be read', async () => {
    await using folder = await scratchFolder();
    {
      await using spool = await openSpool(folder.path, { segmentBytes: 20_000 });
      const log = await spool.open('x');
      for (let index = 0; index < 10; index++) {
        await log.append(piece('stdout', Buffer.alloc(10_000, index)), 1);
        while (only(spool).writtenLengths().get('stdout') !== log.length('stdout')) await new Promise(setImmediate);
      }
      await log.close();
    }
    const path = join(folder.path, 'x~1', '00000002.segment');
    const bytes = await readFile(path);
    bytes[5000]! ^= 1;
    await writeFile(path, bytes);
    await using spool = await openSpool(folder.path);
    const found = await readAll(only(spool));
    assert.equal(found.lengths.get('stdout'), 100_000);
    assert.deepEqual(
      found.gaps.map(({ reason }) => reason),
      ['corrupt'],
    );
    const summary = (await only(spool).resummarize())[0]!;
    assert.equal(summary.lengthBytes, 100_000);
    assert.equal(summary.gapBytes, 100_000 - found.stdout.length);
    assert.equal(summary.sha256, sha256(found.stdout));
  });

  it('turns what a full disk refuses into a gap, and goes on when there is room', async () => {
    await using folder = await scratchFolder();
    let full = false;
    let refused = 0;
    const openFile: OpenFile = async (name, flags, mode) => {
      const handle = await openOnDisk(name, flags, mode);
      const writev = handle.writev.bind(handle);
      handle.writev = ((frames: Uint8Array[]) => {
        if (!full) return writev(frames);
        refused += 1;
        return Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' }));
      }) as typeof writev;
      return handle;
    };
    await using spool = await openSpool(folder.path, {}, openFile);
    const log = await spool.open('x');
    await log.append(piece('stdout', Buffer.from('before')), 1);
    await until('it is written', () => only(spool).writtenLengths().get('stdout') === 6);
    full = true;
    await log.append(piece('stdout', Buffer.from('lost')), 1);
    await until('it is refused', () => refused > 0);
    await assert.rejects(log.close(), (error) => error instanceof LonglineError && error.reason === 'limit');
    full = false;
    await log.append(piece('stdout', Buffer.from('after')), 1);
    const [closed] = await log.close();
    assert.deepEqual([closed?.lengthBytes, closed?.gapBytes], [15, 4]);
    const found = await readAll(only(spool));
    assert.equal(String(found.stdout), 'beforeafter');
    assert.deepEqual(found.gaps, [{ stream: 'stdout', from: 6, to: 10, reason: 'spool_full' }]);
  });

  it('goes on in the next segment while a full one is still being synced', async () => {
    await using folder = await scratchFolder();
    const slow = Promise.withResolvers<void>();
    const openFile: OpenFile = async (path, flags, mode) => {
      const handle = await openOnDisk(path, flags, mode);
      const datasync = handle.datasync.bind(handle);
      if (path.endsWith('00000001.segment')) handle.datasync = () => slow.promise.then(datasync);
      return handle;
    };
    await using spool = await openSpool(folder.path, { segmentBytes: 1000 }, openFile);
    const log = await spool.open('x');
    for (let round = 0; round < 4; round++) {
      await log.append(piece('stdout', Buffer.alloc(600, round)), 1);
      if (round === 3) slow.resolve();
      while (only(spool).writtenLengths().get('stdout') !== log.length('stdout')) await new Promise(setImmediate);
    }
    assert.equal(only(spool).segments.length, 2);
    const [summary] = await log.close();
    assert.equal(summary?.gapBytes, 0);
  });

  it('refuses names that would leave its folder, and appends after the close', async () => {
    await using folder = await scratchFolder();
    await using spool = await openSpool(folder.path);
    for (const id of ['', '..', '../x', 'a/b', '.', 'x'.repeat(129)]) {
      await assert.rejects(spool.open(id), (error) => error instanceof LonglineError && error.reason === 'invalid');
    }
    const log = await spool.open('x');
    await log.close();
    await log.close();
    await assert.rejects(
      log.append(piece('stdout', Buffer.from('late')), 1),
      (error) => error instanceof LonglineError && error.reason === 'wrong_state',
    );
  });
});

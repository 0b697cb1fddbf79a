import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { open as openOnDisk, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LonglineError } from '../../src/core/errors.ts';
import { encodeRecord } from '../../src/core/record-codec.ts';
import { type OpenFile, RecordFile } from '../../src/link/record-file.ts';
import { scratchFolder } from './scratch.ts';

interface Read {
  readonly bodies: string[];
  readonly loss: RecordFile['loss'];
}

async function read(path: string): Promise<Read> {
  const bodies: string[] = [];
  await using file = await RecordFile.open(path, {
    onRecord: (record) => bodies.push(`${record.type}:${Buffer.from(record.body).toString('hex')}`),
  });
  return { bodies, loss: file.loss };
}

const bodiesOf = (records: readonly Uint8Array[]) => records.map((body) => `7:${Buffer.from(body).toString('hex')}`);

describe('record file', () => {
  it('gives back what was appended, in order, also when appends share a round', async () => {
    await using folder = await scratchFolder();
    const path = join(folder.path, 'f');
    const records = Array.from({ length: 2500 }, (_, index) => Buffer.from(`record ${index}`));
    {
      await using file = await RecordFile.open(path);
      const ends = await Promise.all(records.map((body) => file.append([encodeRecord(7, body)])));
      assert.equal(ends.at(-1), file.sizeBytes);
      assert.deepEqual(
        ends,
        ends.toSorted((left, right) => left - right),
      );
    }
    assert.deepEqual(await read(path), { bodies: bodiesOf(records), loss: undefined });
  });

  it('keeps to the last good record at every cut point and goes on from there', async () => {
    await using folder = await scratchFolder();
    const path = join(folder.path, 'f');
    const records = [Buffer.from('first'), Buffer.alloc(0), Buffer.from('third record')];
    const frames = records.map((body) => encodeRecord(7, body));
    const whole = Buffer.concat(frames);
    const ends = frames.map((_, index) => Buffer.concat(frames.slice(0, index + 1)).length);
    for (let cut = 0; cut <= whole.length; cut++) {
      await writeFile(path, whole.subarray(0, cut));
      const good = ends.filter((end) => end <= cut).length;
      const goodBytes = ends[good - 1] ?? 0;
      {
        await using file = await RecordFile.open(path);
        assert.equal(file.loss?.bytes ?? 0, cut - goodBytes, `cut at ${cut}`);
        await file.append([encodeRecord(7, Buffer.from('next'))]);
      }
      assert.deepEqual((await read(path)).bodies, bodiesOf([...records.slice(0, good), Buffer.from('next')]));
    }
  });

  it('never gives out a record that a flipped bit has changed', async () => {
    await using folder = await scratchFolder();
    const path = join(folder.path, 'f');
    const records = [Buffer.from('first'), Buffer.from('second'), Buffer.from('third')];
    const whole = Buffer.concat(records.map((body) => encodeRecord(7, body)));
    const start = records.slice(0, 2).reduce((sum, body) => sum + encodeRecord(7, body).length, 0);
    for (let bit = start * 8; bit < whole.length * 8; bit++) {
      const damaged = Buffer.from(whole);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      await writeFile(path, damaged);
      const { bodies, loss } = await read(path);
      assert.deepEqual(bodies, bodiesOf(records.slice(0, 2)), `bit ${bit}`);
      assert.equal(loss?.bytes, whole.length - start);
      assert.equal(loss?.offset, start);
    }
    assert.equal((await readFile(`${path}.damaged`)).length, whole.length - start);
  });

  it('survives any tail of garbage', async () => {
    await using folder = await scratchFolder();
    const path = join(folder.path, 'f');
    const good = encodeRecord(7, Buffer.from('good'));
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (garbage) => {
        await writeFile(path, Buffer.concat([good, garbage]));
        const { bodies, loss } = await read(path);
        assert.deepEqual(bodies, bodiesOf([Buffer.from('good')]));
        assert.equal(loss?.bytes ?? 0, garbage.length);
      }),
      { numRuns: 50 },
    );
  });

  it('replaces its content while appends go on, and loses none that resolved', async () => {
    await using folder = await scratchFolder();
    const path = join(folder.path, 'f');
    const resolved: Buffer[] = [];
    {
      await using file = await RecordFile.open(path);
      const append = async (index: number) => {
        const frame = encodeRecord(7, Buffer.from([index]));
        await file.append([frame]);
        resolved.push(frame);
      };
      await append(0);
      const work: Promise<void>[] = [];
      for (let index = 1; index < 60; index++) {
        work.push(append(index));
        if (index % 7 === 0) work.push(file.replace(() => [...resolved]));
        if (index % 11 === 0) await Promise.all(work);
      }
      await Promise.all(work);
    }
    const { bodies, loss } = await read(path);
    assert.equal(loss, undefined);
    const expected = bodiesOf(Array.from({ length: 60 }, (_, index) => Buffer.from([index])));
    assert.deepEqual([...new Set(bodies)].toSorted(), expected.toSorted());
  });

  it('cuts a partial write back, says limit, and works again when there is room', async () => {
    await using folder = await scratchFolder();
    const path = join(folder.path, 'f');
    let full = false;
    const openFile: OpenFile = async (name, flags, mode) => {
      const handle = await openOnDisk(name, flags, mode);
      const writev = handle.writev.bind(handle);
      handle.writev = (async (frames: Uint8Array[]) => {
        if (!full) return writev(frames);
        await writev([frames[0]!.subarray(0, 5)]);
        throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
      }) as typeof handle.writev;
      return handle;
    };
    {
      await using file = await RecordFile.open(path, { openFile });
      await file.append([encodeRecord(7, Buffer.from('one'))]);
      full = true;
      const failures = await Promise.allSettled([1, 2].map(() => file.append([encodeRecord(7, Buffer.from('lost'))])));
      for (const failure of failures) {
        assert.ok(failure.status === 'rejected' && failure.reason instanceof LonglineError);
        assert.equal(failure.reason.reason, 'limit');
        assert.match(failure.reason.message, /ENOSPC/);
      }
      full = false;
      await file.append([encodeRecord(7, Buffer.from('two'))]);
    }
    assert.deepEqual(await read(path), { bodies: bodiesOf([Buffer.from('one'), Buffer.from('two')]), loss: undefined });
  });

  it('needs no sync after a write to a settled file, and syncs what it finds', async () => {
    await using folder = await scratchFolder();
    const path = join(folder.path, 'f');
    const opened: string[] = [];
    let syncs = 0;
    const openFile: OpenFile = async (name, flags, mode) => {
      const handle = await openOnDisk(name, flags, mode);
      const datasync = handle.datasync.bind(handle);
      opened.push(flags);
      handle.datasync = async () => {
        syncs += 1;
        await datasync();
      };
      return handle;
    };
    {
      await using file = await RecordFile.open(path, { openFile, settled: true });
      await file.append([encodeRecord(7, Buffer.from('one'))]);
      await file.replace(() => [encodeRecord(7, Buffer.from('two'))]);
      await file.append([encodeRecord(7, Buffer.from('three'))]);
    }
    if (process.platform === 'linux') {
      assert.deepEqual(opened, ['as+', 'as+']);
      assert.equal(syncs, 2, 'what was found at the beginning, and the content that was put in its place');
    }
    syncs = 0;
    await using file = await RecordFile.open(path, { openFile, settled: true });
    assert.equal(syncs, 1);
    assert.equal(file.loss, undefined);
    assert.deepEqual((await read(path)).bodies, bodiesOf([Buffer.from('two'), Buffer.from('three')]));
  });

  it('does so on a disk that is really full', async (context) => {
    await using folder = await scratchFolder();
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'longline-test', folder.path], { stdio: 'ignore' });
    } catch {
      context.diagnostic('no right to mount: covered by the injected file handle above');
      return;
    }
    try {
      const path = join(folder.path, 'f');
      let written = 0;
      {
        await using file = await RecordFile.open(path);
        const big = encodeRecord(7, Buffer.alloc(10_000, 1));
        await assert.rejects(
          async () => {
            for (;;) {
              await file.append([big]);
              written += 1;
            }
          },
          (error) => error instanceof LonglineError && error.reason === 'limit',
        );
        assert.ok(written >= 4, `${written} records of 10 kB fit into 64 kB`);
        assert.equal(file.sizeBytes, written * big.length);
        await file.append([encodeRecord(7, Buffer.from('small'))]);
      }
      assert.equal((await read(path)).bodies.length, written + 1);
    } finally {
      execFileSync('umount', [folder.path]);
    }
  });

  it('says unavailable when the folder is missing, and refuses appends after it was closed', async () => {
    await using folder = await scratchFolder();
    await assert.rejects(
      RecordFile.open(join(folder.path, 'missing', 'f')),
      (error) => error instanceof LonglineError && error.reason === 'unavailable' && /ENOENT/.test(error.message),
    );
    const file = await RecordFile.open(join(folder.path, 'f'));
    await file[Symbol.asyncDispose]();
    await file[Symbol.asyncDispose]();
    await assert.rejects(file.append([encodeRecord(7, Buffer.from('late'))]), LonglineError);
  });
});

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { hash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { ArtifactCache, type ArtifactCacheOptions } from '../../../src/agent/programs/artifact-cache.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import type { ArtifactPiece, ArtifactSource } from '../../../src/core/programs/artifact-source.ts';
import { RecordedLog, scratchFolder, until } from '../../link/scratch.ts';

const BYTES = randomBytes(200_000);
const HEX = hash('sha256', BYTES);
const DIGEST = `sha256:${HEX}`;
const withoutRoot = process.geteuid?.() === 0 ? false : 'root is missing, to mount a small file system';
const never = new AbortController().signal;

/** Gives what the test says, and remembers what it was asked for. */
class ScriptedSource implements ArtifactSource {
  readonly offsets: number[] = [];
  bytes: Buffer = BYTES;
  size: number | undefined = BYTES.length;
  piece = 10_000;
  /** Throws once this many bytes of a read have gone. */
  cutAfter = Number.POSITIVE_INFINITY;
  failure: Error = new LonglineError('unavailable', 'cut');
  ignoresOffset = false;
  before: (signal: AbortSignal) => Promise<void> = async () => undefined;

  async *read(_digest: string, offset: number, signal: AbortSignal): AsyncGenerator<ArtifactPiece> {
    this.offsets.push(offset);
    await this.before(signal);
    let left = this.cutAfter;
    for (let at = this.ignoresOffset ? 0 : offset; at < this.bytes.length; ) {
      if (left <= 0) throw this.failure;
      const data = this.bytes.subarray(at, at + Math.min(this.piece, left));
      yield { size: this.size, offset: at, data };
      at += data.length;
      left -= data.length;
    }
    if (left <= 0) throw this.failure;
  }
}

async function cacheFixture(options: Partial<ArtifactCacheOptions> = {}) {
  const scratch = await scratchFolder();
  const folder = join(scratch.path, 'artifacts');
  const source = new ScriptedSource();
  const log = new RecordedLog();
  const open = () => new ArtifactCache({ folder, sources: { controller: source }, log, ...options });
  return { folder, source, log, open, cache: open(), [Symbol.asyncDispose]: () => scratch[Symbol.asyncDispose]() };
}

function failsWith(reason: LonglineError['reason'], message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof LonglineError, String(error));
    assert.equal(error.reason, reason, error.message);
    assert.match(error.message, message);
    return true;
  };
}

suite('artifacts kept on the host', () => {
  test('are fetched once, durable under their digest, private, and given out from there by a later process', async () => {
    await using f = await cacheFixture();
    assert.ok(BYTES.equals(await f.cache.get(DIGEST, 'controller', never)));
    assert.deepEqual(await readdir(f.folder), [HEX]);
    assert.equal((await stat(f.folder)).mode & 0o777, 0o700);
    assert.equal((await stat(join(f.folder, HEX))).mode & 0o777, 0o600);
    assert.ok(BYTES.equals(await f.open().get(DIGEST, 'local', never)));
    assert.deepEqual(f.source.offsets, [0]);
  });

  test('go on where an earlier try was cut, also in a later process', async () => {
    await using f = await cacheFixture();
    f.source.cutAfter = 50_000;
    await assert.rejects(f.cache.get(DIGEST, 'controller', never), failsWith('unavailable', /cut/));
    await assert.rejects(f.open().get(DIGEST, 'controller', never), failsWith('unavailable', /cut/));
    assert.deepEqual(await readdir(f.folder), [`${HEX}.part`]);
    f.source.cutAfter = Number.POSITIVE_INFINITY;
    assert.ok(BYTES.equals(await f.open().get(DIGEST, 'controller', never)));
    assert.deepEqual(f.source.offsets, [0, 50_000, 100_000]);
    assert.deepEqual(await readdir(f.folder), [HEX]);
  });

  test('come whole through any cuts, pieces and sources that begin at 0', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ cut: fc.integer({ min: 0, max: 60_000 }), restarts: fc.boolean() }), { maxLength: 6 }),
        fc.integer({ min: 1000, max: 70_000 }),
        async (tries, piece) => {
          await using f = await cacheFixture();
          f.source.piece = piece;
          for (const { cut, restarts } of tries) {
            f.source.cutAfter = cut;
            f.source.ignoresOffset = restarts;
            await f
              .open()
              .get(DIGEST, 'controller', never)
              .catch(() => undefined);
          }
          f.source.cutAfter = Number.POSITIVE_INFINITY;
          assert.ok(BYTES.equals(await f.open().get(DIGEST, 'controller', never)));
        },
      ),
      { numRuns: 30 },
    );
  });

  test('are not asked for when all of it came before the process ended', async () => {
    await using f = await cacheFixture();
    await mkdir(f.folder, { mode: 0o700 });
    await writeFile(join(f.folder, `${HEX}.part`), BYTES);
    assert.ok(BYTES.equals(await f.cache.get(DIGEST, 'controller', never)));
    assert.deepEqual(f.source.offsets, []);
  });

  test('are fetched from their start where what was begun does not fit', async () => {
    await using f = await cacheFixture();
    await mkdir(f.folder, { mode: 0o700 });
    await writeFile(join(f.folder, `${HEX}.part`), Buffer.alloc(70_000));
    assert.ok(BYTES.equals(await f.cache.get(DIGEST, 'controller', never)));
    assert.deepEqual(f.source.offsets, [70_000, 0]);
    await writeFile(join(f.folder, `${HEX}.part`), Buffer.alloc(300_000));
    await writeFile(join(f.folder, HEX), 'damaged');
    let asked = 0;
    f.source.before = async () => {
      asked += 1;
      if (asked === 1) throw new LonglineError('invalid', 'offset: is past the end');
    };
    assert.ok(BYTES.equals(await f.cache.get(DIGEST, 'controller', never)));
    assert.deepEqual(f.source.offsets, [70_000, 0, 300_000, 0]);
    assert.ok(f.log.has('warn', 'a kept artifact is damaged'));
  });

  test('that are something else than their digest says are never given out, and not kept', async () => {
    await using f = await cacheFixture();
    f.source.bytes = randomBytes(BYTES.length);
    const wrong = failsWith('invalid', new RegExp(`sha256:${HEX}: 200000 bytes came, with SHA-256 [0-9a-f]{64}`));
    await assert.rejects(f.cache.get(DIGEST, 'controller', never), wrong);
    assert.equal((await stat(join(f.folder, `${HEX}.part`))).size, 0);
    f.source.bytes = BYTES;
    assert.ok(BYTES.equals(await f.cache.get(DIGEST, 'controller', never)));
    const kept = join(f.folder, HEX);
    const damaged = await readFile(kept);
    damaged[1000]! ^= 1;
    await writeFile(kept, damaged);
    assert.ok(BYTES.equals(await f.cache.get(DIGEST, 'controller', never)));
    assert.deepEqual(f.source.offsets, [0, 0, 0]);
  });

  test('that are cut short, too long or have holes are refused', async () => {
    await using f = await cacheFixture();
    f.source.bytes = BYTES.subarray(0, 1000);
    await assert.rejects(f.cache.get(DIGEST, 'controller', never), failsWith('invalid', /1000 bytes came/));
    f.source.bytes = Buffer.concat([BYTES, Buffer.alloc(5000)]);
    await assert.rejects(f.cache.get(DIGEST, 'controller', never), failsWith('invalid', /bytes came/));
    const holes: ArtifactSource = {
      async *read() {
        yield { size: 20, offset: 0, data: Buffer.alloc(5) };
        yield { size: 20, offset: 10, data: Buffer.alloc(5) };
      },
    };
    const other = new ArtifactCache({ folder: f.folder, sources: { controller: holes }, log: f.log });
    await assert.rejects(
      other.get(DIGEST, 'controller', never),
      failsWith('unavailable', /goes on at 10 instead of 5/),
    );
  });

  test('that are too large are refused before they fill the disk, whatever their source says of their size', async () => {
    await using f = await cacheFixture({ maxBytes: 100_000 });
    await assert.rejects(f.cache.get(DIGEST, 'controller', never), failsWith('limit', /at most 100000 are taken/));
    f.source.size = undefined;
    await assert.rejects(f.cache.get(DIGEST, 'controller', never), failsWith('limit', /110000 bytes or more/));
    assert.deepEqual(await readdir(f.folder), []);
  });

  test('are fetched once for all who ask at the same time; who leaves disturbs nobody', async () => {
    await using f = await cacheFixture();
    const go = Promise.withResolvers<void>();
    f.source.before = () => go.promise;
    const leaving = new AbortController();
    const gone = f.cache.get(DIGEST, 'controller', leaving.signal);
    const staying = [1, 2, 3].map(() => f.cache.get(DIGEST, 'controller', never));
    await until('it is asked for', () => f.source.offsets.length === 1);
    leaving.abort(new LonglineError('cancelled', 'left'));
    await assert.rejects(gone, failsWith('cancelled', /left/));
    go.resolve();
    for (const bytes of await Promise.all(staying)) assert.ok(BYTES.equals(bytes));
    assert.deepEqual(f.source.offsets, [0]);
  });

  test('are given up when nobody waits any more, and begun anew by the next who asks', async () => {
    await using f = await cacheFixture();
    let stopped = 0;
    f.source.before = (signal) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          stopped += 1;
          reject(signal.reason);
        });
      });
    const leaving = new AbortController();
    const gone = f.cache.get(DIGEST, 'controller', leaving.signal);
    await until('it is asked for', () => f.source.offsets.length === 1);
    leaving.abort(new LonglineError('cancelled', 'left'));
    await assert.rejects(gone, failsWith('cancelled', /left/));
    await until('the source was told', () => stopped === 1);
    f.source.before = async () => undefined;
    assert.ok(BYTES.equals(await f.cache.get(DIGEST, 'controller', never)));
  });

  test('go when they are not wanted any more, and nothing else goes', async () => {
    await using f = await cacheFixture();
    await f.cache.keepOnly(new Set([DIGEST]));
    await f.cache.get(DIGEST, 'controller', never);
    const other = 'b'.repeat(64);
    await writeFile(join(f.folder, `${other}.part`), 'begun');
    await writeFile(join(f.folder, 'somebody-elses'), 'kept');
    await f.cache.keepOnly(new Set([DIGEST]));
    assert.deepEqual((await readdir(f.folder)).sort(), [HEX, 'somebody-elses'].sort());
    const go = Promise.withResolvers<void>();
    f.source.before = () => go.promise;
    await f.cache.keepOnly(new Set());
    const fetching = f.cache.get(DIGEST, 'controller', never);
    await until('its file is there', () => f.source.offsets.length === 2);
    await f.cache.keepOnly(new Set());
    go.resolve();
    assert.ok(BYTES.equals(await fetching));
    assert.deepEqual((await readdir(f.folder)).sort(), [HEX, 'somebody-elses'].sort());
  });

  test('do not fit on a full disk, and leave it the room that there was', { skip: withoutRoot }, async () => {
    await using f = await cacheFixture();
    await mkdir(f.folder, { mode: 0o700 });
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=0700', 'longline-test', f.folder]);
    try {
      await assert.rejects(f.cache.get(DIGEST, 'controller', never), failsWith('limit', /no room \(ENOSPC\)/));
      assert.deepEqual(await readdir(f.folder), []);
    } finally {
      execFileSync('umount', [f.folder]);
    }
  });

  test('are told apart by what went wrong', async () => {
    await using f = await cacheFixture();
    await assert.rejects(
      f.cache.get('sha256:XYZ', 'controller', never),
      failsWith('invalid', /"sha256:XYZ" is no digest/),
    );
    await assert.rejects(f.cache.get(DIGEST, 'registry', never), failsWith('not_found', /nowhere to get it from/));
    f.source.cutAfter = 0;
    for (const reason of ['not_found', 'late'] as const) {
      f.source.failure = new LonglineError(reason, 'so it is');
      await assert.rejects(f.cache.get(DIGEST, 'controller', never), failsWith(reason, /so it is/));
    }
    f.source.failure = new LonglineError('policy', 'nothing of this agent wants it');
    await assert.rejects(f.cache.get(DIGEST, 'controller', never), failsWith('unavailable', /nothing of this agent/));
    await assert.rejects(f.cache.get(DIGEST, 'controller', AbortSignal.abort(new LonglineError('cancelled', 'over'))));
  });

  test('are not put where others may write, or through a link of theirs', async () => {
    await using f = await cacheFixture();
    await mkdir(f.folder);
    await chmod(f.folder, 0o777);
    const loose = failsWith('unavailable', /programs\.cache_dir: .*artifacts can be written by others; .*chmod 700/);
    await assert.rejects(f.cache.get(DIGEST, 'controller', never), loose);
    await chmod(f.folder, 0o700);
    const outside = join(f.folder, '..', 'outside');
    await writeFile(outside, 'untouched');
    await symlink(outside, join(f.folder, `${HEX}.part`));
    await assert.rejects(f.cache.get(DIGEST, 'controller', never), failsWith('unavailable', /ELOOP/));
    assert.equal(await readFile(outside, 'utf8'), 'untouched');
  });
});

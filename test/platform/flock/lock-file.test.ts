// The lock on a real file: one holder, epochs that survive it, torn slots, a full disk, a file that is taken away.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, open, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LockFile } from '../../../src/platform/flock/lock-file.ts';
import { SLOT_BYTES } from '../../../src/platform/flock/lock-slot.ts';

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flock-'));
});
after(() => rm(folder, { recursive: true, force: true }));

const lock = (path: string, holder = 'one', agentId = 'a') => new LockFile({ path, agentId, holder });

test('one has it, the others hear who; epochs go on from the file and from the floor', async () => {
  const path = join(folder, 'deep', 'er', 'lock');
  await using first = lock(path);
  await using second = lock(path, 'two');
  assert.deepEqual(await first.acquire(0n), { kind: 'acquired', epoch: 1n });
  assert.deepEqual(await second.acquire(0n), { kind: 'taken', holder: 'one', epoch: 1n });
  assert.equal(await first.renew(), true);
  await first.release();
  assert.deepEqual(await second.acquire(0n), { kind: 'acquired', epoch: 2n });
  await second.release();
  assert.deepEqual(await first.acquire(40n), { kind: 'acquired', epoch: 41n });
});

test('a lock that nobody waits for any more is not kept', async () => {
  const path = join(folder, 'late');
  await using first = lock(path);
  await using second = lock(path, 'two');
  const stop = new AbortController();
  const asked = first.acquire(0n, stop.signal);
  const late = new Error('too late');
  stop.abort(late);
  await assert.rejects(asked, { message: /too late/ });
  assert.equal((await second.acquire(0n)).kind, 'acquired');
});

test('a slot that was torn leaves the one before', async () => {
  const path = join(folder, 'torn');
  await using first = lock(path);
  for (let epoch = 1n; epoch <= 3n; epoch++) assert.deepEqual(await first.acquire(0n), { kind: 'acquired', epoch });
  await first.release();
  await using file = await open(path, 'r+');
  await file.write('x', 20);
  assert.deepEqual(await first.acquire(0n), { kind: 'acquired', epoch: 3n });
  await file.write('x', 20);
  await file.write('x', SLOT_BYTES + 20);
  assert.deepEqual(await first.acquire(9n), { kind: 'acquired', epoch: 10n }, 'nothing whole: the floor counts');
});

test('a leader whose file is taken away notices, and another agent may not have it', async () => {
  const path = join(folder, 'gone');
  await using first = lock(path);
  await first.acquire(0n);
  await rename(path, `${path}.old`);
  assert.equal(await first.renew(), false);
  await using other = lock(`${path}.old`, 'three', 'b');
  await assert.rejects(other.acquire(0n), /is the one of agent a/);
});

test('what is no file of ours is left alone', async () => {
  const target = join(folder, 'target');
  await writeFile(target, 'precious');
  await symlink(target, join(folder, 'link'));
  await assert.rejects(lock(join(folder, 'link')).acquire(0n), { reason: 'unavailable' });
  await assert.rejects(lock(folder).acquire(0n), { name: 'LonglineError' });
});

const root = process.getuid?.() === 0 && process.platform === 'linux';
test('on a full disk nobody begins to lead, and as soon as there is room one does', {
  skip: root ? false : 'needs root to mount a tmpfs',
}, async () => {
  const small = await mkdtemp(join(tmpdir(), 'full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', small]);
  try {
    const filler = join(small, 'filler');
    await writeFile(filler, Buffer.alloc(64 * 1024)).catch(() => undefined);
    await using first = lock(join(small, 'lock'));
    await assert.rejects(first.acquire(0n), { reason: 'limit' });
    await using second = lock(join(small, 'lock'), 'two');
    await assert.rejects(second.acquire(0n), { reason: 'limit' }, 'the first let go of it');
    await rm(filler);
    assert.deepEqual(await second.acquire(0n), { kind: 'acquired', epoch: 1n });
    await second.release();
  } finally {
    execFileSync('umount', [small]);
    await rm(small, { recursive: true, force: true });
  }
});

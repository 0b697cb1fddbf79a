// Artifacts in a store whose disk has no room for them: told, and nothing of them stays.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { LonglineError } from '../../../src/core/errors.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root, for a file system of its own';

async function put({ artifacts }: Store, size: number) {
  const bytes = new Uint8Array(randomBytes(size));
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const record = { digest, size, name: 'p', metadata: new Uint8Array(), signers: [], createdAtMs: 1 };
  return await artifacts.put(record, bytes, 1e12);
}

it('says that there is no room, and goes on with what there is room for', { skip }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=6m,mode=0700', 'longline-test', folder]);
  try {
    await using store = openSqliteStore(join(folder, 'store.db'));
    for (let round = 0; round < 3; round++) {
      await assert.rejects(put(store, 12 * 1024 * 1024), (error: unknown) => {
        return (
          error instanceof LonglineError && error.reason === 'unavailable' && /the disk is full/.test(error.message)
        );
      });
      await store.commands.expire(1, 0, 1);
      assert.match(store.writes.failure!, /the disk is full/, 'a write of nothing says nothing of the disk');
      assert.equal((await put(store, 100_000)).kind, 'stored', `round ${round}`);
      assert.equal(store.writes.failure, undefined);
      assert.equal(store.writes.progress.overdue(), undefined);
    }
    const { items } = await store.artifacts.list({ name: '', pageSize: 10, pageToken: '' });
    assert.deepEqual(
      items.map(({ size }) => size),
      [100_000, 100_000, 100_000],
    );
  } finally {
    execFileSync('umount', [folder]);
    await rm(folder, { recursive: true, force: true });
  }
});

// Artifacts in a store whose process is killed while it takes them in: each is there whole, or not at all.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { it } from 'node:test';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';

const ROUNDS = 4;

it('has whole artifacts only after kill -9, and all that were said to be stored', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-artifacts-'));
  const path = join(folder, 'store.db');
  const store = JSON.stringify(new URL('../../../src/controller/store/sqlite/sqlite-store.ts', import.meta.url).href);
  const program = `
    import { createHash, randomBytes } from 'node:crypto';
    import { openSqliteStore } from ${store};
    const { artifacts } = openSqliteStore(${JSON.stringify(path)}, { sliceMs: 0, patienceMs: 0 });
    for (;;) {
      const bytes = new Uint8Array(randomBytes(500_000));
      const digest = 'sha256:' + createHash('sha256').update(bytes).digest('hex');
      const record = { digest, size: bytes.length, name: 'p', metadata: new Uint8Array(), signers: [], createdAtMs: 1 };
      await artifacts.put(record, bytes, 1e12);
      process.stdout.write(digest + '\\n');
    }`;
  try {
    const told = new Set<string>();
    for (let round = 1; round <= ROUNDS; round++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let output = '';
      const enough = Promise.withResolvers<void>();
      child.stdout.on('data', (text) => {
        output += text;
        if (output.split('\n').length > 3 * round) enough.resolve();
      });
      await Promise.race([enough.promise, once(child, 'exit').then(() => assert.fail('the writer ended'))]);
      child.kill('SIGKILL');
      await once(child, 'close');
      for (const digest of output.split('\n').slice(0, -1)) told.add(digest);
    }
    await using opened = openSqliteStore(path);
    const { items } = await opened.artifacts.list({ name: '', pageSize: 1000, pageToken: '' });
    const known = new Set(items.map(({ digest }) => digest));
    for (const digest of told) assert.ok(known.has(digest), `${digest} is lost`);
    for (const { digest, size } of items) {
      const parts: Uint8Array[] = [];
      for (let at = 0; at < size; at += parts.at(-1)!.length) parts.push((await opened.artifacts.read(digest, at))!);
      assert.equal(`sha256:${createHash('sha256').update(Buffer.concat(parts)).digest('hex')}`, digest);
    }
    using database = new DatabaseSync(path, { readOnly: true });
    const orphans = database.prepare(
      'SELECT count(*) AS n FROM artifact_pieces WHERE digest NOT IN (SELECT digest FROM artifacts)',
    );
    assert.equal(orphans.get()?.['n'], 0);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

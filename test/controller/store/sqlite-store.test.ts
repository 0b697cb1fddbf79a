import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Database } from '../../../src/controller/store/sqlite/database.ts';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import { identityRepositoryContract } from '../identity/repository-contract.ts';
import { desiredStateContract } from './desired-state-contract.ts';
import { networkStoreContract } from './network-contract.ts';
import { programStoreContract } from './program-contract.ts';
import { rolloutStoreContract } from './rollout-contract.ts';
import { sessionStoreContract } from './session-store-contract.ts';
import { type StoreUnderTest, storeContract } from './store-contract.ts';

async function open(): Promise<StoreUnderTest> {
  const folder = await mkdtemp(join(tmpdir(), 'longline-store-'));
  const begin = (): StoreUnderTest => {
    const store = openSqliteStore(join(folder, 'store.db'));
    return {
      store,
      reopen: async () => {
        await store[Symbol.asyncDispose]();
        return begin();
      },
      close: async () => {
        await store[Symbol.asyncDispose]();
        await rm(folder, { recursive: true, force: true });
      },
    };
  };
  return begin();
}

storeContract('sqlite', open);
sessionStoreContract('sqlite', open);
desiredStateContract('sqlite', open);
networkStoreContract('sqlite', open);
rolloutStoreContract('sqlite', open);
programStoreContract('sqlite', open);
identityRepositoryContract('sqlite', async () => {
  const { store, close } = await open();
  return { repositories: store, close };
});

describe('sqlite database', () => {
  let folder: string;
  let path: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-db-'));
    path = join(folder, 'x.db');
  });
  afterEach(async () => await rm(folder, { recursive: true, force: true }));
  const SCHEMA = ['CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT NOT NULL UNIQUE) STRICT'];
  const values = (db: Database) => db.read((sql) => sql.all('SELECT v FROM t ORDER BY id').map((row) => row['v']));

  it('commits a tick of writes as one group, undoing only those that throw', async () => {
    await using db = Database.open(path, SCHEMA);
    const insert = (v: string) => db.write((sql) => sql.run('INSERT INTO t (v) VALUES (?)', v));
    const outcomes = await Promise.allSettled([insert('a'), insert('a'), insert('b')]);
    assert.deepEqual(
      outcomes.map((outcome) => outcome.status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    assert.deepEqual(await values(db), ['a', 'b']);
  });

  it('lets a patient write share the commit of the next one, and makes it alone if none comes', async () => {
    await using db = Database.open(path, SCHEMA, { sliceMs: 8, patienceMs: 60_000 });
    using watcher = new DatabaseSync(path);
    const commits = () => watcher.prepare('PRAGMA data_version').get()!['data_version'] as number;
    const insert = (v: string) => (sql: { run(sql: string, v: string): number }) =>
      sql.run('INSERT INTO t (v) VALUES (?)', v);
    const before = commits();
    const patient = db.writeSoon(insert('a'));
    // Longer than an impatient write would have taken to be committed.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    await Promise.all([patient, db.write(insert('b'))]);
    assert.equal(commits(), before + 1);
    assert.deepEqual(await values(db), ['a', 'b']);
    await using hasty = Database.open(path, SCHEMA);
    await hasty.writeSoon(insert('c'));
    assert.deepEqual(await values(hasty), ['a', 'b', 'c']);
  });

  it('makes a long unit in slices that nobody else sees half done', async () => {
    // Slices of no length, so that there are many on a fast machine too.
    await using db = Database.open(path, SCHEMA, { sliceMs: 0, patienceMs: 0 });
    let seen = 0;
    const writing = db.write(function* (sql) {
      for (let i = 0; i < 2000; i++) {
        sql.run('INSERT INTO t (v) VALUES (?)', `v${i}`);
        yield;
      }
    });
    let turns = 0;
    const watching = (async () => {
      for (let done = false; !done; turns++) {
        await new Promise((resolve) => setImmediate(resolve));
        seen = (await values(db)).length;
        assert.ok(seen === 0 || seen === 2000, `saw ${seen} rows`);
        done = seen > 0;
      }
    })();
    await writing;
    await watching;
    assert.ok(turns > 2, 'the event loop had turns while the unit was made');
  });

  it('says what is wrong with a file that can not be used', async () => {
    await writeFile(path, 'this is not a database, it only lies where one should be. '.repeat(50));
    assert.throws(() => Database.open(path, SCHEMA), /is not a database/);
    assert.throws(() => Database.open(join(folder, 'missing', 'x.db'), SCHEMA), /could not be opened/);
    const newer = join(folder, 'newer.db');
    await Database.open(newer, [...SCHEMA, 'CREATE TABLE u (x) '])[Symbol.asyncDispose]();
    assert.throws(() => Database.open(newer, SCHEMA), /schema version 2, this program knows 1/);
  });

  it('takes certificates that were stored before agents had replicas for those of the one that enrolled', async () => {
    const identity = {
      ...{ agentId: 'a', instanceId: 'i1', labels: {}, enrolledAtMs: 1, enrollmentTokenId: 't1', version: 1 },
      ...{ publicKeyHash: undefined, apiKeyHash: undefined, revoked: false, certificates: [] },
    };
    await using store = openSqliteStore(path);
    await store.agentIdentities.save({ identity, spendTokenId: undefined, nowMs: 1 });
    const before = new DatabaseSync(path);
    before.exec(`UPDATE agent_identities SET certificates = '[{"serial":"1f","expiresAtMs":9}]'`);
    before.close();
    const found = await store.agentIdentities.find('a');
    assert.deepEqual(found?.certificates, [{ serial: '1f', expiresAtMs: 9, instanceId: 'i1', tokenId: 't1' }]);
    // It stays that one's when another enrols.
    const next = { ...found, instanceId: 'i2', enrollmentTokenId: 't2', version: 2 };
    await store.agentIdentities.save({ identity: next, spendTokenId: undefined, nowMs: 1 });
    assert.deepEqual((await store.agentIdentities.find('a'))?.certificates, found.certificates);
  });

  it('fails writes while another process holds the file, and goes on after', async () => {
    await using db = Database.open(path, SCHEMA);
    const other = new DatabaseSync(path);
    other.exec('BEGIN IMMEDIATE');
    await assert.rejects(
      db.write((sql) => sql.run("INSERT INTO t (v) VALUES ('a')")),
      /locked by another process/,
    );
    other.exec('ROLLBACK');
    other.close();
    await db.write((sql) => sql.run("INSERT INTO t (v) VALUES ('b')"));
    assert.deepEqual(await values(db), ['b']);
  });

  it('has everything that was said to be durable after kill -9', async () => {
    const database = JSON.stringify(new URL('../../../src/controller/store/sqlite/database.ts', import.meta.url).href);
    const program = `
      import { Database } from ${database};
      const db = Database.open(${JSON.stringify(path)}, ${JSON.stringify(SCHEMA)});
      for (let i = 0; ; i++) {
        await db.write((sql) => sql.run('INSERT INTO t (v) VALUES (?)', String(i)));
        process.stdout.write(i + '\\n');
      }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    for await (const chunk of child.stdout) {
      said += String(chunk);
      if (said.split('\n').length > 200) child.kill('SIGKILL');
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    const last = Number(said.slice(0, said.lastIndexOf('\n')).split('\n').at(-1));
    await using db = Database.open(path, SCHEMA);
    const stored = await values(db);
    assert.deepEqual(
      stored.slice(0, last + 1),
      Array.from({ length: last + 1 }, (_, i) => String(i)),
    );
  });
});

import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import { AuditLog, type AuditLogOptions } from '../../../src/agent/audit/audit-log.ts';
import { exportAuditLog } from '../../../src/agent/audit/export.ts';
import { verifyAuditLog } from '../../../src/agent/audit/verification.ts';
import { type AuditCheckpoint, checkpointFault } from '../../../src/core/audit/audit-checkpoint.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';

let folder = '';
let checkpoints: AuditCheckpoint[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-audit-'));
  checkpoints = [];
});
afterEach(async () => await rm(folder, { recursive: true, force: true }));

const file = () => join(folder, 'audit.db');

function open(changes: Partial<AuditLogOptions> = {}): Promise<AuditLog> {
  return AuditLog.open({
    dataDir: folder,
    clock: systemClock,
    log: silentLogger,
    onCheckpoint: (checkpoint) => checkpoints.push(checkpoint),
    ...changes,
  });
}

function records(filter = {}) {
  const lines = [...exportAuditLog(file(), filter)].join('').trimEnd().split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line));
}

test('records are kept in order, over restarts, and verify', async () => {
  {
    await using log = await open();
    await log.append(
      { event: 'received', commandId: 'c1' },
      { event: 'admitted', commandId: 'c1', rule: 'r', summary: { image: 'é' } },
    );
  }
  {
    await using log = await open();
    assert.equal(log.head.sequence, 2);
    await log.append({ event: 'refused', commandId: 'c2', outcome: 'policy', controllerId: 'a\0b\n\ud800' });
  }
  const all = records();
  assert.deepEqual(
    all.map((record) => [record.sequence, record.event]),
    [
      [1, 'received'],
      [2, 'admitted'],
      [3, 'refused'],
    ],
  );
  assert.deepEqual(all[1].summary, { image: 'é' });
  assert.equal(all[2].controller_id, 'a\ufffdb\ufffd\ufffd');
  const verification = verifyAuditLog(file(), checkpoints);
  assert.deepEqual([verification.records, verification.findings], [3, []]);
  assert.equal(all[2].hash, Buffer.from(verification.head).toString('hex'));
  assert.deepEqual(
    records({ event: 'refused' }).map((record) => record.sequence),
    [3],
  );
  assert.deepEqual(
    records({ commandId: 'c1' }).map((record) => record.sequence),
    [1, 2],
  );
  assert.deepEqual(records({ toMs: 0 }), []);
  assert.equal(records({ fromMs: Date.parse(all[0].time) }).length, 3);
});

test('many appends at once keep their order, each durable when it resolves', async () => {
  await using log = await open({ checkpointRecords: 100_000 });
  const reader = new DatabaseSync(file(), { readOnly: true });
  const last = () => Number(reader.prepare('SELECT max(sequence) AS last FROM audit_records').get()!['last']);
  await Promise.all(
    Array.from({ length: 500 }, async (_, index) => {
      await log.append({ event: 'received', commandId: `c${index}` });
      assert.ok(last() >= index + 1);
    }),
  );
  reader.close();
  assert.deepEqual(
    records().map((record) => record.command_id),
    Array.from({ length: 500 }, (_, index) => `c${index}`),
  );
});

test('the table refuses changes of what stands', async () => {
  await using log = await open();
  await log.append({ event: 'received' });
  const database = new DatabaseSync(file());
  const copy = 'SELECT * FROM audit_records WHERE sequence = 1';
  for (const sql of [
    "UPDATE audit_records SET event = 'x'",
    'DELETE FROM audit_records',
    `INSERT OR REPLACE INTO audit_records ${copy}`,
    'UPDATE audit_chain SET chain_id = 1',
    'DELETE FROM audit_chain',
  ]) {
    assert.throws(() => database.exec(sql), /append-only/, sql);
  }
  database.close();
  assert.deepEqual(verifyAuditLog(file(), []).findings, []);
});

test('heads are signed every so many records, kept until acknowledged, and offered again', async () => {
  let chainId = '';
  {
    await using log = await open({ checkpointRecords: 10 });
    for (let index = 0; index < 25; index++) await log.append({ event: 'received' });
    await log.checkpoint();
    chainId = log.head.chainId;
    assert.ok(checkpoints.length >= 2);
    assert.equal(checkpoints.at(-1)!.sequence, 25);
    for (const checkpoint of checkpoints) assert.equal(checkpointFault(checkpoint), undefined);
    await log.acknowledge('another chain', 25);
    assert.deepEqual(
      (await log.unacknowledged()).map(({ sequence }) => sequence),
      checkpoints.map(({ sequence }) => sequence),
    );
    await log.acknowledge(chainId, checkpoints[0]!.sequence);
  }
  await using log = await open();
  const offered = await log.unacknowledged();
  assert.deepEqual(
    offered,
    checkpoints.slice(1).map((checkpoint) => ({ ...checkpoint, head: new Uint8Array(checkpoint.head) })),
  );
  assert.equal(log.head.chainId, chainId);
});

test('an edited checkpoint has a fault', async () => {
  await using log = await open();
  await log.append({ event: 'received' });
  await log.checkpoint();
  const good = checkpoints[0]!;
  assert.equal(checkpointFault({ ...good, sequence: 2 }), 'what it signs is not what stands beside it');
  assert.equal(
    checkpointFault({ ...good, signature: good.signature.map((byte) => byte ^ 1) }),
    'its signature is wrong',
  );
  assert.match(checkpointFault({ ...good, publicKey: new Uint8Array(32) })!, /small order/);
});

test('heads are signed after a time without anybody asking', async () => {
  const { promise, resolve } = Promise.withResolvers<AuditCheckpoint>();
  await using log = await open({ checkpointIntervalMs: 5, onCheckpoint: resolve });
  await log.append({ event: 'received' });
  assert.equal((await promise).sequence, 1);
});

test('the key is private, and a log without its key is refused with the mend', async () => {
  {
    await using log = await open();
    await log.append({ event: 'received' });
  }
  const keyFile = join(folder, 'audit.key');
  assert.equal((await stat(keyFile)).mode & 0o777, 0o600);
  await chmod(keyFile, 0o640);
  await assert.rejects(open(), /audit key .*chmod 600/);
  await rm(keyFile);
  await assert.rejects(open(), { reason: 'unavailable', message: /audit key .* is missing, but its log .* exists/ });
});

test('a file that is no database is refused, not overwritten', async () => {
  {
    await using log = await open();
    await log.append({ event: 'received' });
  }
  const { writeFile, readFile } = await import('node:fs/promises');
  await rm(`${file()}-wal`, { force: true });
  await writeFile(file(), 'not a database, but long enough to be looked at by anybody who wants to know');
  await assert.rejects(open(), { reason: 'unavailable', message: /audit log .*audit.db: .*move it away/ });
  assert.match(await readFile(file(), 'utf8'), /^not a database/);
});

test('a fingerprint tells equal from different and nothing else', async () => {
  await using log = await open();
  assert.equal(log.fingerprint('secret'), log.fingerprint(Buffer.from('secret')));
  assert.notEqual(log.fingerprint('secret'), log.fingerprint('other'));
  const { createHash } = await import('node:crypto');
  assert.ok(!log.fingerprint('secret').includes(createHash('sha256').update('secret').digest('hex')));
});

test('too large a summary is left out, and closing twice is fine', async () => {
  const log = await open();
  await log.append({ event: 'received', summary: { text: 'x'.repeat(70_000) } });
  await log[Symbol.asyncDispose]();
  await log[Symbol.asyncDispose]();
  assert.deepEqual(records()[0].summary, { omitted_bytes: 70_011 });
  await assert.rejects(log.append({ event: 'received' }), { reason: 'unavailable' });
});

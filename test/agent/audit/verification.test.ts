import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, afterEach, before, test } from 'node:test';
import fc from 'fast-check';
import { AuditLog } from '../../../src/agent/audit/audit-log.ts';
import { verifyAuditLog } from '../../../src/agent/audit/verification.ts';
import type { AuditCheckpoint } from '../../../src/core/audit/audit-checkpoint.ts';
import { canonicalBytes, chainHash, chainStart } from '../../../src/core/audit/audit-record.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';

const RECORDS = 40;
const TEXTS = ['event', 'command_id', 'controller_id', 'key_id', 'capability', 'outcome', 'rule', 'summary'] as const;

let folder = '';
let original = '';
let copy = '';
const kept: AuditCheckpoint[] = [];

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'longline-verify-'));
  original = join(folder, 'audit.db');
  copy = join(folder, 'copy.db');
  const onCheckpoint = (checkpoint: AuditCheckpoint) => kept.push(checkpoint);
  const options = { dataDir: folder, clock: systemClock, log: silentLogger, onCheckpoint, checkpointRecords: 10 };
  await using log = await AuditLog.open(options);
  for (let index = 1; index <= RECORDS; index++) {
    const ids = { commandId: `command-${index}`, controllerId: 'main', keyId: 'ops', capability: 'jobs' };
    await log.append({
      event: 'admitted',
      ...ids,
      outcome: 'allowed',
      rule: 'images.x',
      summary: { prompt: `é\ufffd ${index}` },
    });
  }
});
after(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => rmSync(copy, { force: true }));

/** Changes a copy as somebody would who knows SQLite: triggers away, change, triggers back. */
function tamper(change: (database: DatabaseSync) => void): void {
  copyFileSync(original, copy);
  const database = new DatabaseSync(copy);
  const triggers = database.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY rowid").all();
  for (const { name } of triggers) database.exec(`DROP TRIGGER ${name}`);
  change(database);
  for (const { sql } of triggers) database.exec(String(sql));
  database.exec('PRAGMA journal_mode = DELETE');
  database.close();
}

const found = (checkpoints: readonly AuditCheckpoint[] = []) =>
  verifyAuditLog(copy, checkpoints).findings.map(({ kind, sequence }) => `${kind} ${sequence ?? ''}`.trim());

test('an untouched copy has no findings, with and without kept checkpoints', () => {
  tamper(() => undefined);
  assert.deepEqual(found(), []);
  assert.deepEqual(found(kept), []);
  const verification = verifyAuditLog(original, kept);
  assert.deepEqual([verification.records, verification.coveredSequence], [RECORDS, RECORDS]);
});

test('SQL and JavaScript agree on canonical bytes', () => {
  const database = new DatabaseSync(original, { readOnly: true });
  const chainId = String(database.prepare('SELECT chain_id FROM audit_chain').get()!['chain_id']);
  let previous: Uint8Array = chainStart(chainId);
  for (const row of database.prepare('SELECT * FROM audit_records ORDER BY sequence').all()) {
    const text = (name: string) => String(row[name]);
    previous = chainHash(
      previous,
      canonicalBytes({
        sequence: Number(row['sequence']),
        timeMs: Number(row['time_ms']),
        event: text('event'),
        commandId: text('command_id'),
        controllerId: text('controller_id'),
        keyId: text('key_id'),
        capability: text('capability'),
        outcome: text('outcome'),
        rule: text('rule'),
        summary: text('summary'),
      }),
    );
    assert.deepEqual(Buffer.from(row['hash'] as Uint8Array), previous);
  }
  database.close();
});

test('canonical bytes are netstrings, fields in order', () => {
  const record = {
    sequence: 1,
    timeMs: 22,
    event: 'é',
    commandId: '',
    controllerId: 'a',
    keyId: '',
    capability: '',
    outcome: '',
    rule: '',
    summary: '{}',
  };
  assert.equal(canonicalBytes(record).toString(), '1:1,2:22,2:é,0:,1:a,0:,0:,0:,0:,2:{},');
});

test('one changed byte in any column of any record is found, and where', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: RECORDS }),
      fc.constantFrom(...TEXTS, 'hash'),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (sequence, column, at, mask) => {
        tamper((database) => {
          const row = database
            .prepare(`SELECT CAST(${column} AS BLOB) AS bytes FROM audit_records WHERE sequence = ?`)
            .get(sequence)!;
          const bytes = row['bytes'] as Uint8Array;
          bytes[at % bytes.length]! ^= mask;
          const type = column === 'hash' ? 'BLOB' : 'TEXT';
          database
            .prepare(`UPDATE audit_records SET ${column} = CAST(? AS ${type}) WHERE sequence = ?`)
            .run(bytes, sequence);
        });
        assert.equal(found().includes(`edited ${sequence}`), true, `${column} of ${sequence}`);
      },
    ),
    { numRuns: 60 },
  );
});

test('an edit that reading as text would mend is found', () => {
  tamper((database) => {
    const { bytes } = database
      .prepare('SELECT CAST(summary AS BLOB) AS bytes FROM audit_records WHERE sequence = 7')
      .get()!;
    const summary = Buffer.from(bytes as Uint8Array);
    // EF BF BD is U+FFFD; F0 BF BD is cut off and decodes to the same.
    summary[summary.indexOf(Buffer.from('\ufffd'))] = 0xf0;
    assert.equal(summary.toString(), Buffer.from(bytes as Uint8Array).toString());
    database.prepare('UPDATE audit_records SET summary = CAST(? AS TEXT) WHERE sequence = 7').run(summary);
  });
  assert.deepEqual(found(), ['edited 7']);
});

test('a changed time, a changed type', () => {
  tamper((database) => database.exec('UPDATE audit_records SET time_ms = time_ms + 1 WHERE sequence = 5'));
  assert.deepEqual(found(), ['edited 5']);
});

test('records cut out, swapped, put in', () => {
  tamper((database) => database.exec('DELETE FROM audit_records WHERE sequence IN (5, 6)'));
  assert.deepEqual(found(), ['missing 7']);
  tamper((database) => database.exec('DELETE FROM audit_records WHERE sequence = 1'));
  assert.deepEqual(found(), ['missing 2']);
  tamper((database) =>
    database.exec(
      'UPDATE audit_records SET sequence = -sequence WHERE sequence IN (5, 6); UPDATE audit_records SET sequence = 11 + sequence WHERE sequence < 0',
    ),
  );
  assert.deepEqual(found(), ['edited 5', 'edited 6', 'edited 7']);
  tamper((database) =>
    database.exec(
      'DELETE FROM audit_records WHERE sequence = 5; UPDATE audit_records SET sequence = sequence - 1 WHERE sequence > 5',
    ),
  );
  assert.equal(found()[0], 'edited 5');
});

test('an end that was cut off shows by checkpoints: those in the file, or those kept elsewhere', () => {
  tamper((database) => database.exec('DELETE FROM audit_records WHERE sequence > 33'));
  assert.deepEqual(found(), ['truncated 33']);
  tamper((database) =>
    database.exec('DELETE FROM audit_records WHERE sequence > 33; DELETE FROM audit_checkpoints WHERE sequence > 33'),
  );
  assert.deepEqual(found(), []);
  assert.deepEqual(found(kept), ['truncated 33']);
  tamper((database) => database.exec('DELETE FROM audit_records; DELETE FROM audit_checkpoints'));
  assert.deepEqual(found(kept), ['truncated 0']);
});

test('a chain that was written anew follows from itself but not from kept checkpoints', () => {
  tamper((database) => {
    database.exec("DELETE FROM audit_checkpoints; UPDATE audit_records SET outcome = 'forged' WHERE sequence = 12");
    rewriteHashes(database);
  });
  assert.deepEqual(found(), []);
  assert.deepEqual(
    found(kept).every((finding) => /^replaced \d+$/.test(finding)),
    true,
  );
  assert.ok(found(kept).length > 0);
});

test('another chain or another audit key is no substitute', () => {
  copyFileSync(original, copy);
  const other = kept.map((checkpoint) => ({ ...checkpoint, chainId: 'another' }));
  assert.ok(found(other).every((finding) => finding.startsWith('replaced')));
  const forged = [{ ...kept[0]!, publicKey: kept[0]!.publicKey.map((byte, index) => (index === 3 ? byte ^ 1 : byte)) }];
  assert.deepEqual(found(forged), [`replaced ${kept[0]!.sequence}`]);
  assert.deepEqual(found([{ ...kept[0]!, sequence: 1 }]), ['checkpoint 1']);
});

test('an edited checkpoint beside the chain is found', () => {
  tamper((database) =>
    database.exec(
      'UPDATE audit_checkpoints SET head = zeroblob(32) WHERE sequence = (SELECT max(sequence) FROM audit_checkpoints)',
    ),
  );
  assert.deepEqual(found(), [`checkpoint ${RECORDS}`]);
});

test('a changed schema is found', () => {
  tamper((database) => database.exec('CREATE VIEW v AS SELECT 1'));
  assert.deepEqual(found(), ['schema']);
  copyFileSync(original, copy);
  const database = new DatabaseSync(copy);
  database.exec('DROP TRIGGER audit_records_no_update');
  database.close();
  assert.match(verifyAuditLog(copy, []).findings[0]!.explanation, /audit_records_no_update is missing/);
});

test('whatever byte of the file is flipped: a finding, or every record is as it was', () => {
  const bytes = readFileSync(original);
  const records = (path: string) => {
    const database = new DatabaseSync(path, { readOnly: true });
    try {
      return JSON.stringify(database.prepare('SELECT * FROM audit_records ORDER BY sequence').all());
    } finally {
      database.close();
    }
  };
  const expected = records(original);
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
      const edited = Buffer.from(bytes);
      edited[at]! ^= mask;
      writeFileSync(copy, edited);
      let clean: boolean;
      try {
        clean = verifyAuditLog(copy, kept).findings.length === 0;
      } catch {
        clean = false;
      }
      if (clean) assert.equal(records(copy), expected, `byte ${at}`);
      for (const suffix of ['-wal', '-shm', '-journal']) rmSync(copy + suffix, { force: true });
    }),
    { numRuns: 150 },
  );
});

test('what is no audit log can not be read', () => {
  assert.throws(() => verifyAuditLog(join(folder, 'none.db'), []), { reason: 'not_found' });
  writeFileSync(copy, 'x'.repeat(5000));
  assert.throws(() => verifyAuditLog(copy, []), { reason: 'unavailable' });
});

function rewriteHashes(database: DatabaseSync): void {
  let previous: Uint8Array = chainStart(
    String(database.prepare('SELECT chain_id FROM audit_chain').get()!['chain_id']),
  );
  for (const row of database.prepare('SELECT * FROM audit_records ORDER BY sequence').all()) {
    const [event, commandId, controllerId, keyId, capability, outcome, rule, summary] = TEXTS.map((name) =>
      String(row[name]),
    ) as [string, string, string, string, string, string, string, string];
    const ids = { sequence: Number(row['sequence']), timeMs: Number(row['time_ms']) };
    previous = chainHash(
      previous,
      canonicalBytes({ ...ids, event, commandId, controllerId, keyId, capability, outcome, rule, summary }),
    );
    database.prepare('UPDATE audit_records SET hash = ? WHERE sequence = ?').run(previous, ids.sequence);
  }
}

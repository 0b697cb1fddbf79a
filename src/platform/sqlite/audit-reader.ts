// Reads an audit file without changing it, while an agent writes it or after it was carried off: for verification and
// export. Never trusts what it reads.
import { existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { AUDIT_FIELDS, type AuditRecord, HASH_BYTES } from '../../core/audit/audit-record.ts';
import { LonglineError } from '../../core/errors.ts';
import type { CheckpointRow } from './audit-rows.ts';
import { AUDIT_SCHEMA, CANONICAL_SQL, RECORD_COLUMNS } from './audit-schema.ts';

/** A record for verification: the stored hash (32 bytes), then the canonical bytes as they follow from the columns. */
export type LinkedRow = readonly [sequence: number, hashAndCanonical: Uint8Array];

/** A record as stored. */
export interface StoredRecord extends AuditRecord {
  readonly hash: Uint8Array;
}

/** What an export leaves out. */
export interface RecordFilter {
  readonly fromMs?: number;
  readonly toMs?: number;
  readonly event?: string;
  readonly commandId?: string;
}

/** An audit file open for reading: one state of it, whatever is appended meanwhile. */
export class AuditReader implements Disposable {
  readonly #database: DatabaseSync;

  /** Throws `not_found` or `unavailable`. */
  constructor(path: string) {
    if (!existsSync(path)) throw new LonglineError('not_found', `there is no audit log at ${path}`);
    this.#database = openReadOnly(path);
  }

  /** Chain id and audit public key; undefined if the file lost them. */
  chain(): { readonly chainId: string; readonly publicKey: Uint8Array } | undefined {
    const row = this.#database.prepare('SELECT chain_id, public_key FROM audit_chain WHERE only = 1').get();
    if (row === undefined) return undefined;
    return { chainId: String(row['chain_id']), publicKey: bytes(row['public_key']) };
  }

  /** Damage that SQLite itself sees, and columns of a wrong type; empty if there is none. */
  integrityFaults(): readonly string[] {
    const rows = this.#database.prepare('PRAGMA integrity_check(100)').all();
    return rows.map((row) => String(row['integrity_check'])).filter((text) => text !== 'ok');
  }

  /** What of tables and triggers isn't as the agent made it. */
  schemaFaults(): readonly string[] {
    const rows = this.#database.prepare('SELECT name, sql FROM sqlite_schema ORDER BY rowid').all();
    const found = new Map(rows.map((row) => [String(row['name']), String(row['sql'])]));
    const faults: string[] = [];
    for (const [name, sql] of AUDIT_SCHEMA) {
      if (found.get(name) === undefined) faults.push(`${name} is missing`);
      else if (found.get(name) !== sql) faults.push(`${name} was altered`);
      found.delete(name);
    }
    for (const name of found.keys()) faults.push(`${name} was added`);
    return faults;
  }

  /** All records in order of sequence. The bytes of a row may be overwritten by the caller. */
  *linkedRows(): Iterable<LinkedRow> {
    const sql = `SELECT sequence, CAST(CASE length(hash) WHEN ${HASH_BYTES} THEN hash ELSE zeroblob(${HASH_BYTES}) END || ${CANONICAL_SQL} AS BLOB)`;
    const statement = this.#database.prepare(`${sql} FROM audit_records NOT INDEXED ORDER BY sequence`);
    statement.setReturnArrays(true);
    yield* statement.iterate() as Iterable<unknown> as Iterable<LinkedRow>;
  }

  /** Checkpoints stored beside the chain, in order. */
  checkpoints(): readonly CheckpointRow[] {
    const rows = this.#database
      .prepare('SELECT sequence, time_ms, head, payload, signature FROM audit_checkpoints ORDER BY sequence')
      .all();
    return rows.map((row) => ({
      sequence: Number(row['sequence']),
      timeMs: Number(row['time_ms']),
      head: bytes(row['head']),
      payload: bytes(row['payload']),
      signature: bytes(row['signature']),
    }));
  }

  /** Records that pass the filter, in order. */
  *records(filter: RecordFilter): Iterable<StoredRecord> {
    const statement = this.#database.prepare(
      `SELECT ${RECORD_COLUMNS} FROM audit_records WHERE time_ms >= ? AND time_ms < ?
       AND (?3 = '' OR event = ?3) AND (?4 = '' OR command_id = ?4) ORDER BY sequence`,
    );
    const { fromMs = 0, toMs = Number.MAX_SAFE_INTEGER, event = '', commandId = '' } = filter;
    for (const row of statement.iterate(fromMs, toMs, event, commandId)) {
      const [sequence, timeMs, ...texts] = AUDIT_FIELDS.map((name) => row[name]);
      const [eventName, id, controllerId, keyId, capability, outcome, rule, summary] = texts.map(String) as Texts;
      const fields = { event: eventName, commandId: id, controllerId, keyId, capability, outcome, rule, summary };
      yield { sequence: Number(sequence), timeMs: Number(timeMs), ...fields, hash: bytes(row['hash']) };
    }
  }

  [Symbol.dispose](): void {
    if (this.#database.isOpen) this.#database.close();
  }
}

type Texts = [string, string, string, string, string, string, string, string];

function openReadOnly(path: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { readOnly: true, timeout: 5000 });
    database.exec('PRAGMA trusted_schema = OFF; BEGIN');
    database.prepare('SELECT count(*) FROM sqlite_schema').get();
    return database;
  } catch (error) {
    if (database?.isOpen) database.close();
    // A file in WAL mode can't be read from a folder where its -shm can't be made; alone it can, as it is.
    if (!existsSync(`${path}-wal`)) {
      const alone = new URL(pathToFileURL(path));
      alone.search = '?immutable=1';
      try {
        const copy = new DatabaseSync(alone, { readOnly: true });
        copy.exec('PRAGMA trusted_schema = OFF; BEGIN');
        copy.prepare('SELECT count(*) FROM sqlite_schema').get();
        return copy;
      } catch {
        // Told below, with the first cause.
      }
    }
    throw new LonglineError('unavailable', `can't read audit log ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function bytes(value: unknown): Uint8Array {
  return value instanceof Uint8Array ? value : new TextEncoder().encode(String(value));
}

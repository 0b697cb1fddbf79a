// The audit file itself: SQLite calls and the chain, on the caller's thread. A change is in the file when its call returns,
// and survives the loss of the host once `sync` has resolved; only that part waits for the disk, on the thread pool. (A
// thread of its own for all of it would cost an idle agent some 10 MiB.) A call that throws leaves file and chain as they were.
import { type FileHandle, open } from 'node:fs/promises';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { canonicalBytes, chainHash, chainStart } from '../../core/audit/audit-record.ts';
import type { AuditRow, ChainHead, CheckpointRow } from './audit-rows.ts';
import { AUDIT_SCHEMA, INSERT_RECORD } from './audit-schema.ts';

/** How an audit file is opened. */
export interface AuditFileOptions {
  readonly path: string;
  /** Id of the chain if the file is new. */
  readonly newChainId: string;
  /** Ed25519 public key whose checkpoints go with this chain. */
  readonly publicKey: Uint8Array;
}

/** An open file. The owner closes it. */
export class AuditFile {
  readonly #database: DatabaseSync;
  readonly #insert: StatementSync;
  readonly #path: string;
  #head: ChainHead;
  #writeAheadLog: FileHandle | undefined;

  /** Opens or makes the file. */
  constructor(options: AuditFileOptions) {
    this.#path = options.path;
    this.#database = new DatabaseSync(options.path, { timeout: 5000 });
    try {
      // NORMAL syncs when pages move from the write-ahead log into the file, but not at each commit: that is `sync`.
      this.#database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF');
      this.#head = this.#transaction(() => openChain(this.#database, options));
      this.#insert = this.#database.prepare(INSERT_RECORD);
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** The end of the chain, durable or not. */
  get head(): ChainHead {
    return this.#head;
  }

  /** Appends all or none. */
  append(rows: readonly AuditRow[]): ChainHead {
    this.#head = this.#transaction(() => this.#append(rows));
    return this.#head;
  }

  addCheckpoint({ sequence, timeMs, head, payload, signature }: CheckpointRow): void {
    this.#database
      .prepare('INSERT INTO audit_checkpoints (sequence, time_ms, head, payload, signature) VALUES (?, ?, ?, ?, ?)')
      .run(sequence, timeMs, head, payload, signature);
  }

  /** Marks checkpoints up to a sequence as held by the controller. */
  acknowledge(sequence: number): void {
    this.#database
      .prepare('UPDATE audit_checkpoints SET acknowledged = 1 WHERE sequence <= ? AND acknowledged = 0')
      .run(sequence);
  }

  /** The newest checkpoints that aren't acknowledged, oldest first. */
  unacknowledged(limit: number): readonly CheckpointRow[] {
    return this.#database
      .prepare(
        `SELECT * FROM (SELECT sequence, time_ms AS timeMs, head, payload, signature FROM audit_checkpoints
         WHERE acknowledged = 0 ORDER BY sequence DESC LIMIT ?) ORDER BY sequence`,
      )
      .all(limit)
      .map((row) => ({ ...row }) as unknown as CheckpointRow);
  }

  /** Sequence of the last stored checkpoint; 0 for none. */
  lastCheckpoint(): number {
    const row = this.#database.prepare('SELECT coalesce(max(sequence), 0) AS last FROM audit_checkpoints').get()!;
    return row['last'] as number;
  }

  /** Resolves once all that was done before is on the disk. */
  async sync(): Promise<void> {
    // The write-ahead log stays one file as long as the database is open.
    this.#writeAheadLog ??= await open(`${this.#path}-wal`, 'r+');
    await this.#writeAheadLog.datasync();
  }

  async close(): Promise<void> {
    try {
      this.#database.close();
    } finally {
      await this.#writeAheadLog?.close();
    }
  }

  #append(rows: readonly AuditRow[]): ChainHead {
    let { sequence, hash } = this.#head;
    for (const row of rows) {
      sequence += 1;
      const [timeMs, event, commandId, controllerId, keyId, capability, outcome, rule, summary] = row;
      const fields = { timeMs, event, commandId, controllerId, keyId, capability, outcome, rule, summary };
      hash = chainHash(hash, canonicalBytes({ sequence, ...fields }));
      this.#insert.run(sequence, ...row, hash);
    }
    return { chainId: this.#head.chainId, sequence, hash };
  }

  #transaction<T>(work: () => T): T {
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      const result = work();
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      // SQLite rolls some failures back by itself, such as a full disk.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }
}

function openChain(database: DatabaseSync, options: AuditFileOptions): ChainHead {
  const made = database.prepare("SELECT count(*) AS tables FROM sqlite_schema WHERE name = 'audit_chain'").get()!;
  if (made['tables'] === 0) {
    for (const [, sql] of AUDIT_SCHEMA) database.exec(sql);
    database
      .prepare('INSERT INTO audit_chain (only, chain_id, public_key) VALUES (1, ?, ?)')
      .run(options.newChainId, options.publicKey);
  }
  const chain = database.prepare('SELECT chain_id, public_key FROM audit_chain').get();
  if (chain === undefined)
    throw new Error('the audit log has lost its chain id; restore it, or move it away to begin anew');
  if (!Buffer.from(chain['public_key'] as Uint8Array).equals(options.publicKey)) {
    throw new Error('the audit log belongs to another audit key; restore that key, or move the log away to begin anew');
  }
  const chainId = chain['chain_id'] as string;
  const last = database.prepare('SELECT sequence, hash FROM audit_records ORDER BY sequence DESC LIMIT 1').get();
  if (last === undefined) return { chainId, sequence: 0, hash: chainStart(chainId) };
  return { chainId, sequence: last['sequence'] as number, hash: last['hash'] as Uint8Array };
}

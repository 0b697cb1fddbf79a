// The thread that owns the audit file. Everything that waits for the disk happens here, never on the event loop of the
// agent. One request at a time; a failed one leaves file and chain as they were.
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { parentPort } from 'node:worker_threads';
import { canonicalBytes, chainHash, chainStart } from '../../core/audit/audit-record.ts';
import type { AuditReply, AuditRequest, AuditRow, ChainHead } from './audit-protocol.ts';
import { AUDIT_SCHEMA, INSERT_RECORD } from './audit-schema.ts';

class AuditFile {
  readonly #database: DatabaseSync;
  readonly #insert: StatementSync;
  #head: ChainHead;

  constructor(request: Extract<AuditRequest, { kind: 'open' }>) {
    this.#database = new DatabaseSync(request.path, { timeout: 5000 });
    try {
      this.#database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF');
      this.#head = this.#transaction(() => openChain(this.#database, request));
      this.#insert = this.#database.prepare(INSERT_RECORD);
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  answer(request: AuditRequest): unknown {
    switch (request.kind) {
      case 'open':
        return this.#head;
      case 'append':
        this.#head = this.#transaction(() => this.#append(request.rows));
        return this.#head;
      case 'checkpoint': {
        const { sequence, timeMs, head, payload, signature } = request.row;
        this.#database
          .prepare('INSERT INTO audit_checkpoints (sequence, time_ms, head, payload, signature) VALUES (?, ?, ?, ?, ?)')
          .run(sequence, timeMs, head, payload, signature);
        return null;
      }
      case 'acknowledge':
        this.#database
          .prepare('UPDATE audit_checkpoints SET acknowledged = 1 WHERE sequence <= ? AND acknowledged = 0')
          .run(request.sequence);
        return null;
      case 'unacknowledged':
        return this.#database
          .prepare(
            `SELECT * FROM (SELECT sequence, time_ms AS timeMs, head, payload, signature FROM audit_checkpoints
             WHERE acknowledged = 0 ORDER BY sequence DESC LIMIT ?) ORDER BY sequence`,
          )
          .all(request.limit)
          .map((row) => ({ ...row }));
      case 'last_checkpoint':
        return this.#database.prepare('SELECT coalesce(max(sequence), 0) AS last FROM audit_checkpoints').get()![
          'last'
        ];
      case 'close':
        this.#database.close();
        return null;
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

function openChain(database: DatabaseSync, request: Extract<AuditRequest, { kind: 'open' }>): ChainHead {
  const made = database.prepare("SELECT count(*) AS tables FROM sqlite_schema WHERE name = 'audit_chain'").get()!;
  if (made['tables'] === 0) {
    for (const [, sql] of AUDIT_SCHEMA) database.exec(sql);
    database
      .prepare('INSERT INTO audit_chain (only, chain_id, public_key) VALUES (1, ?, ?)')
      .run(request.newChainId, request.publicKey);
  }
  const chain = database.prepare('SELECT chain_id, public_key FROM audit_chain').get();
  if (chain === undefined)
    throw new Error('the audit log has lost its chain id; restore it, or move it away to begin anew');
  if (!Buffer.from(chain['public_key'] as Uint8Array).equals(request.publicKey)) {
    throw new Error('the audit log belongs to another audit key; restore that key, or move the log away to begin anew');
  }
  const chainId = chain['chain_id'] as string;
  const last = database.prepare('SELECT sequence, hash FROM audit_records ORDER BY sequence DESC LIMIT 1').get();
  if (last === undefined) return { chainId, sequence: 0, hash: chainStart(chainId) };
  return { chainId, sequence: last['sequence'] as number, hash: last['hash'] as Uint8Array };
}

const port = parentPort;
if (port === null) throw new Error('audit-worker.ts is started as a worker thread only');
let file: AuditFile | undefined;

port.on('message', (request: AuditRequest) => {
  let reply: AuditReply;
  try {
    if (request.kind === 'open') file = new AuditFile(request);
    reply = { ok: true, value: file?.answer(request) ?? null };
  } catch (error) {
    const code = ((error as { errcode?: number }).errcode ?? 0) & 0xff;
    reply = { ok: false, message: (error as Error).message, code };
  }
  port.postMessage(reply);
  if (request.kind === 'close') port.close();
});

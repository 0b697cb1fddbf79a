// Audit checkpoints and state reports on SQLite.
import type { AuditCheckpointRecord, AuditCheckpointRepository } from '../audit-checkpoint.ts';
import type { Page, PageQuery } from '../page.ts';
import type { StateReportRecord, StateReportRepository } from '../state-report.ts';
import { blob, number, text } from './column.ts';
import type { Database, Row } from './database.ts';
import { decodePageToken, pageOf } from './page-token.ts';

function toCheckpoint(row: Row): AuditCheckpointRecord {
  return {
    agentId: text(row, 'agent_id'),
    chainId: text(row, 'chain_id'),
    sequence: number(row, 'sequence'),
    head: blob(row, 'head'),
    signedAtMs: number(row, 'signed_at_ms'),
    storedAtMs: number(row, 'stored_at_ms'),
    publicKey: blob(row, 'public_key'),
    payload: blob(row, 'payload'),
    signature: blob(row, 'signature'),
  };
}

/** AuditCheckpointRepository on one database. */
export class SqliteAuditCheckpoints implements AuditCheckpointRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async add(record: AuditCheckpointRecord): Promise<'stored' | 'known' | 'conflict'> {
    return await this.#db.write((sql) => {
      const key = [record.agentId, record.chainId, record.sequence] as const;
      const others = sql.all(
        'SELECT head FROM audit_checkpoints WHERE agent_id = ? AND chain_id = ? AND sequence = ?',
        ...key,
      );
      const added = sql.run(
        `INSERT INTO audit_checkpoints (agent_id, chain_id, sequence, head, signed_at_ms, stored_at_ms, public_key, payload,
           signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
        ...key,
        record.head,
        record.signedAtMs,
        record.storedAtMs,
        record.publicKey,
        record.payload,
        record.signature,
      );
      if (added === 0) return 'known';
      return others.length === 0 ? 'stored' : 'conflict';
    });
  }

  async list(agentId: string, page: PageQuery): Promise<Page<AuditCheckpointRecord>> {
    const before = Number(decodePageToken(page.pageToken) ?? Number.MAX_SAFE_INTEGER);
    return await this.#db.read((sql) => {
      const rows = sql.all(
        'SELECT * FROM audit_checkpoints WHERE agent_id = ? AND number < ? ORDER BY number DESC LIMIT ?',
        agentId,
        Number.isSafeInteger(before) ? before : 0,
        page.pageSize + 1,
      );
      return pageOf(rows, page.pageSize, toCheckpoint, (row) => String(row['number']));
    });
  }

  async deleteOld(beforeMs: number, limit: number): Promise<number> {
    return await this.#db.write((sql) =>
      sql.run(
        `DELETE FROM audit_checkpoints WHERE number IN (
           SELECT c.number FROM audit_checkpoints c WHERE c.stored_at_ms < ?
             AND EXISTS (SELECT 1 FROM audit_checkpoints newer WHERE newer.agent_id = c.agent_id
               AND newer.chain_id = c.chain_id AND newer.sequence > c.sequence)
             AND NOT EXISTS (SELECT 1 FROM audit_checkpoints other WHERE other.agent_id = c.agent_id
               AND other.chain_id = c.chain_id AND other.sequence = c.sequence AND other.head <> c.head)
           LIMIT ?)`,
        beforeMs,
        limit,
      ),
    );
  }
}

/** StateReportRepository on one database. */
export class SqliteStateReports implements StateReportRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async put(record: StateReportRecord): Promise<void> {
    await this.#db.write((sql) =>
      sql.run(
        'INSERT OR REPLACE INTO state_reports (agent_id, kind, generation, report, stored_at_ms) VALUES (?, ?, ?, ?, ?)',
        record.agentId,
        record.kind,
        record.generation.toString(),
        record.report,
        record.storedAtMs,
      ),
    );
  }

  async get(agentId: string, kind: number): Promise<StateReportRecord | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one('SELECT * FROM state_reports WHERE agent_id = ? AND kind = ?', agentId, kind);
      if (row === undefined) return undefined;
      return {
        agentId,
        kind,
        generation: BigInt(text(row, 'generation')),
        report: blob(row, 'report'),
        storedAtMs: number(row, 'stored_at_ms'),
      };
    });
  }
}

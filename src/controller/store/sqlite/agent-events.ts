// Events of agents on SQLite.
import type { AgentEventRecord, AgentEventRepository, NewAgentEvent } from '../agent-event.ts';
import type { Page, PageQuery } from '../page.ts';
import { blob, number, text } from './column.ts';
import type { Database, Row } from './database.ts';
import { decodePageToken, pageOf } from './page-token.ts';

export const EVENTS_MIGRATION = `
  CREATE TABLE agent_events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_id TEXT NOT NULL,
    event BLOB NOT NULL,
    stored_at_ms INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX agent_events_by_agent ON agent_events (agent_id, number);
`;

function toEvent(row: Row): AgentEventRecord {
  return {
    number: number(row, 'number'),
    agentId: text(row, 'agent_id'),
    event: blob(row, 'event'),
    storedAtMs: number(row, 'stored_at_ms'),
  };
}

/** AgentEventRepository on one database. */
export class SqliteAgentEvents implements AgentEventRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async add({ agentId, event, storedAtMs }: NewAgentEvent, keep: number): Promise<void> {
    await this.#db.writeSoon((sql) => {
      sql.run('INSERT INTO agent_events (agent_id, event, stored_at_ms) VALUES (?, ?, ?)', agentId, event, storedAtMs);
      sql.run(
        `DELETE FROM agent_events WHERE agent_id = ?1 AND number <=
           (SELECT number FROM agent_events WHERE agent_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)`,
        agentId,
        keep,
      );
    });
  }

  async list(agentId: string, page: PageQuery): Promise<Page<AgentEventRecord>> {
    const before = Number(decodePageToken(page.pageToken) ?? Number.MAX_SAFE_INTEGER);
    return await this.#db.read((sql) => {
      const rows = sql.all(
        `SELECT * FROM agent_events WHERE ${agentId === '' ? "'' = ?" : 'agent_id = ?'} AND number < ? ORDER BY number DESC LIMIT ?`,
        agentId,
        Number.isSafeInteger(before) ? before : 0,
        page.pageSize + 1,
      );
      return pageOf(rows, page.pageSize, toEvent, (row) => String(row['number']));
    });
  }

  async after(agentId: string, after: number, limit: number): Promise<readonly AgentEventRecord[]> {
    return await this.#db.read((sql) =>
      sql
        .all(
          `SELECT * FROM agent_events WHERE ${agentId === '' ? "'' = ?" : 'agent_id = ?'} AND number > ? ORDER BY number LIMIT ?`,
          agentId,
          after,
          limit,
        )
        .map(toEvent),
    );
  }

  async last(): Promise<number> {
    return await this.#db.read((sql) => {
      const row = sql.one('SELECT coalesce(max(number), 0) AS last FROM agent_events');
      return number(row!, 'last');
    });
  }
}

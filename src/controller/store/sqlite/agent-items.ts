// What agents have by name, noted beside their desired states: reading, paging and forgetting are the same whatever it is.
import type { Page, PageQuery } from '../page.ts';
import { text } from './column.ts';
import type { Database, Row, Sql } from './database.ts';
import { decodePageToken, pageOf } from './page-token.ts';

/** Columns that a listing may be narrowed by, with the values; an empty value narrows nothing. */
export type ItemConditions = Readonly<Record<string, string>>;

/** Rows of one table with agent_id, name, generation and removing, in the order of agents and names. */
export class AgentItems<R> {
  protected readonly db: Database;
  readonly #table: string;
  readonly #toRecord: (row: Row) => R;

  /** `table` and the columns of conditions are parts of statements: never from outside. */
  constructor(db: Database, table: string, toRecord: (row: Row) => R) {
    this.db = db;
    this.#table = table;
    this.#toRecord = toRecord;
  }

  async get(agentId: string, name: string): Promise<R | undefined> {
    return await this.db.read((sql) => {
      const row = sql.one(`SELECT * FROM ${this.#table} WHERE agent_id = ? AND name = ?`, agentId, name);
      return row && this.#toRecord(row);
    });
  }

  async ofAgent(agentId: string): Promise<readonly R[]> {
    return await this.db.read((sql) =>
      sql.all(`SELECT * FROM ${this.#table} WHERE agent_id = ? ORDER BY name`, agentId).map(this.#toRecord),
    );
  }

  async forget(agentId: string, names: readonly string[], generation: bigint): Promise<readonly string[]> {
    const statement = `DELETE FROM ${this.#table} WHERE agent_id = ? AND name = ? AND removing = 1 AND generation <= ?`;
    return await this.db.write((sql) => names.filter((name) => sql.run(statement, agentId, name, generation) > 0));
  }

  protected async page(wanted: ItemConditions, { pageSize, pageToken }: PageQuery): Promise<Page<R>> {
    const [afterAgent = '', afterName = ''] = (decodePageToken(pageToken) ?? '').split('\n');
    const conditions = ['(agent_id, name) > (?, ?)'];
    const values = [afterAgent, afterName];
    for (const [column, value] of Object.entries(wanted)) {
      if (value === '') continue;
      conditions.push(`${column} = ?`);
      values.push(value);
    }
    return await this.db.read((sql) => {
      const rows = sql.all(
        `SELECT * FROM ${this.#table} WHERE ${conditions.join(' AND ')} ORDER BY agent_id, name LIMIT ?`,
        ...values,
        pageSize + 1,
      );
      return pageOf(rows, pageSize, this.#toRecord, (row) => `${text(row, 'agent_id')}\n${text(row, 'name')}`);
    });
  }
}

/** Forgets all items of an agent; part of the transaction that forgets the agent. */
export function deleteItems(
  sql: Sql,
  table: 'networks' | 'programs' | 'program_rollbacks' | 'assignment_deliveries',
  agentId: string,
): void {
  sql.run(`DELETE FROM ${table} WHERE agent_id = ?`, agentId);
}

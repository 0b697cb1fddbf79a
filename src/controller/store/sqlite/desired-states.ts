// Desired states on SQLite.
import type {
  DesiredStateHead,
  DesiredStateQuery,
  DesiredStateRecord,
  DesiredStateRepository,
  DesiredStateUpdate,
  PutStateOutcome,
  StateId,
  StateRefusal,
} from '../desired-state.ts';
import { blob, number, optionalBlob, text } from './column.ts';
import type { Database, Row, Sql } from './database.ts';

export const DESIRED_STATES_MIGRATION = `
  CREATE TABLE desired_states (
    agent_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    digest BLOB NOT NULL,
    body BLOB NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    refused_generation INTEGER NOT NULL DEFAULT 0,
    refused_error BLOB,
    refused_at_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (agent_id, kind)
  ) STRICT;
  CREATE INDEX desired_states_by_kind ON desired_states (kind, agent_id);

  CREATE TABLE desired_state_undos (
    agent_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    delta BLOB NOT NULL,
    PRIMARY KEY (agent_id, kind, generation)
  ) STRICT;
`;

export const STATE_TRACES_MIGRATION = "ALTER TABLE desired_states ADD COLUMN traceparent TEXT NOT NULL DEFAULT ''";

/** How far back undos are kept: beyond, a full state is sent, which then isn't much more. */
const KEPT_UNDOS = { generations: 64, bytes: 1024 * 1024 } as const;

/** Number of DesiredStateKind NETWORK. */
export const NETWORK_KIND = 1;

/** Number of DesiredStateKind PROGRAMS. */
export const PROGRAM_KIND = 2;

/** Tables that note since which generation what is in a state is as it is, by kind. */
const ITEMS: Readonly<Record<number, string>> = { [NETWORK_KIND]: 'networks', [PROGRAM_KIND]: 'programs' };

const LAST_TOLD = BigInt(Number.MAX_SAFE_INTEGER);

const HEAD_COLUMNS =
  'agent_id, kind, generation, digest, changed_at_ms, refused_generation, refused_error, refused_at_ms';
const OF = 'agent_id = ? AND kind = ?';

function toHead(row: Row): DesiredStateHead {
  const error = optionalBlob(row, 'refused_error');
  return {
    agentId: text(row, 'agent_id'),
    kind: number(row, 'kind'),
    generation: BigInt(number(row, 'generation')),
    digest: blob(row, 'digest'),
    changedAtMs: number(row, 'changed_at_ms'),
    refusal:
      error === undefined
        ? undefined
        : { generation: BigInt(number(row, 'refused_generation')), error, atMs: number(row, 'refused_at_ms') },
  };
}

function toRecord(row: Row): DesiredStateRecord {
  return { ...toHead(row), body: blob(row, 'body'), traceparent: text(row, 'traceparent') };
}

/** Forgets all desired states of an agent; part of the transaction that forgets the agent. */
export function deleteDesiredStates(sql: Sql, agentId: string): void {
  sql.run('DELETE FROM desired_states WHERE agent_id = ?', agentId);
  sql.run('DELETE FROM desired_state_undos WHERE agent_id = ?', agentId);
}

/** DesiredStateRepository on one database. */
export class SqliteDesiredStates implements DesiredStateRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async get(agentId: string, kind: number): Promise<DesiredStateRecord | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one(`SELECT * FROM desired_states WHERE ${OF}`, agentId, kind);
      return row && toRecord(row);
    });
  }

  async heads(agentId: string): Promise<readonly DesiredStateHead[]> {
    return await this.#db.read((sql) =>
      sql.all(`SELECT ${HEAD_COLUMNS} FROM desired_states WHERE agent_id = ? ORDER BY kind`, agentId).map(toHead),
    );
  }

  async list({ kind, afterAgentId, limit }: DesiredStateQuery): Promise<readonly DesiredStateRecord[]> {
    return await this.#db.read((sql) =>
      sql
        .all(
          'SELECT * FROM desired_states WHERE kind = ? AND agent_id > ? ORDER BY agent_id LIMIT ?',
          kind,
          afterAgentId,
          limit,
        )
        .map(toRecord),
    );
  }

  async put(update: DesiredStateUpdate): Promise<PutStateOutcome> {
    return await this.#db.write((sql) => putDesiredState(sql, update));
  }

  async raise(agentId: string, kind: number, { generation, digest }: StateId): Promise<void> {
    await this.#db.write((sql) => {
      const raised = sql.run(
        `UPDATE desired_states SET generation = ?3 + 1 WHERE agent_id = ?1 AND kind = ?2
           AND (generation < ?3 OR generation = ?3 AND digest <> ?4)`,
        agentId,
        kind,
        generation,
        digest,
      );
      if (raised === 0) return;
      sql.run(`DELETE FROM desired_state_undos WHERE ${OF}`, agentId, kind);
      // What the agent says of generations from elsewhere is no answer to what was asked here.
      const items = ITEMS[kind];
      if (items !== undefined)
        sql.run(`UPDATE ${items} SET generation = ? + 1 WHERE agent_id = ?`, generation, agentId);
    });
  }

  async undos(agentId: string, kind: number, to: bigint): Promise<readonly Uint8Array[] | undefined> {
    return await this.#db.read((sql) => {
      const latest = sql.one(`SELECT generation FROM desired_states WHERE ${OF}`, agentId, kind);
      if (latest === undefined) return undefined;
      const rows = sql.all(
        `SELECT delta FROM desired_state_undos WHERE ${OF} AND generation > ? ORDER BY generation DESC`,
        agentId,
        kind,
        storable(to),
      );
      const steps = BigInt(number(latest, 'generation')) - to;
      return BigInt(rows.length) === steps ? rows.map((row) => blob(row, 'delta')) : undefined;
    });
  }

  async refused(agentId: string, kind: number, { generation, error, atMs }: StateRefusal): Promise<void> {
    await this.#db.write((sql) => {
      sql.run(
        `UPDATE desired_states SET refused_generation = ?3, refused_error = ?4, refused_at_ms = ?5
           WHERE agent_id = ?1 AND kind = ?2 AND ?3 BETWEEN refused_generation AND generation`,
        agentId,
        kind,
        storable(generation),
        error,
        atMs,
      );
    });
  }

  async applied(agentId: string, kind: number, generation: bigint): Promise<void> {
    // Seldom there: looked at before anything is written.
    const held = await this.#db.read((sql) =>
      sql.one(`SELECT 1 FROM desired_states WHERE ${OF} AND refused_error IS NOT NULL`, agentId, kind),
    );
    if (held === undefined) return;
    await this.#db.write((sql) => {
      sql.run(
        `UPDATE desired_states SET refused_generation = 0, refused_error = NULL WHERE ${OF} AND refused_generation <= ?`,
        agentId,
        kind,
        storable(generation),
      );
    });
  }
}

/** A generation that an agent told, which may be any number, as one that SQLite can compare with those given out. */
function storable(told: bigint): bigint {
  return told < LAST_TOLD ? told : LAST_TOLD;
}

/** Puts a next generation; part of a transaction that others share. */
export function putDesiredState(
  sql: Sql,
  { agentId, kind, expected, body, digest, undo, nowMs, traceparent = '' }: DesiredStateUpdate,
): PutStateOutcome {
  if (sql.one('SELECT 1 FROM agents WHERE id = ?', agentId) === undefined) return { kind: 'missing' };
  const latest = sql.one(`SELECT generation FROM desired_states WHERE ${OF}`, agentId, kind);
  if (BigInt(latest === undefined ? 0 : number(latest, 'generation')) !== expected) return { kind: 'moved' };
  const generation = expected + 1n;
  sql.run(
    `INSERT INTO desired_states (agent_id, kind, generation, digest, body, changed_at_ms, traceparent)
       VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (agent_id, kind) DO UPDATE SET generation = excluded.generation, digest = excluded.digest,
         body = excluded.body, changed_at_ms = excluded.changed_at_ms, traceparent = excluded.traceparent`,
    agentId,
    kind,
    generation,
    digest,
    body,
    nowMs,
    traceparent,
  );
  if (undo === undefined) sql.run(`DELETE FROM desired_state_undos WHERE ${OF}`, agentId, kind);
  else keepUndo(sql, agentId, kind, generation, undo);
  return { kind: 'stored', generation };
}

function keepUndo(sql: Sql, agentId: string, kind: number, generation: bigint, undo: Uint8Array): void {
  sql.run(
    'INSERT INTO desired_state_undos (agent_id, kind, generation, delta) VALUES (?, ?, ?, ?)',
    agentId,
    kind,
    generation,
    undo,
  );
  sql.run(
    `DELETE FROM desired_state_undos WHERE agent_id = ?1 AND kind = ?2 AND (generation <= ?3 OR generation IN
       (SELECT generation FROM
         (SELECT generation, sum(length(delta)) OVER (ORDER BY generation DESC) AS bytes
            FROM desired_state_undos WHERE agent_id = ?1 AND kind = ?2)
         WHERE bytes > ?4))`,
    agentId,
    kind,
    generation - BigInt(KEPT_UNDOS.generations),
    KEPT_UNDOS.bytes,
  );
}

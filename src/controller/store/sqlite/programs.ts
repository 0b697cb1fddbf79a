// Programs and their rollbacks on SQLite.
import type { Page, PageQuery } from '../page.ts';
import type {
  ProgramCommit,
  ProgramCommitOutcome,
  ProgramConditions,
  ProgramRecord,
  ProgramRepository,
  RollbackRecord,
  RollbackRepository,
} from '../program.ts';
import { AgentItems } from './agent-items.ts';
import { hasArtifact } from './artifacts.ts';
import { blob, number, text } from './column.ts';
import type { Database, Row, Sql } from './database.ts';
import { PROGRAM_KIND, putDesiredState } from './desired-states.ts';
import { decodePageToken, pageOf } from './page-token.ts';

const PUT = `INSERT OR REPLACE INTO programs
  (agent_id, name, assignment, artifact, spec_hash, generation, updated_at_ms, removing) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`;

const AGENTS = `SELECT agent_id FROM programs WHERE agent_id >= ?1
  UNION SELECT agent_id FROM state_reports WHERE kind = ${PROGRAM_KIND} AND agent_id >= ?1 ORDER BY agent_id LIMIT ?2`;

const REMOVING = 'SELECT DISTINCT agent_id FROM programs WHERE removing = 1 AND agent_id > ? ORDER BY agent_id LIMIT ?';

function toProgram(row: Row): ProgramRecord {
  return {
    agentId: text(row, 'agent_id'),
    name: text(row, 'name'),
    assignment: text(row, 'assignment'),
    artifact: text(row, 'artifact'),
    specHash: blob(row, 'spec_hash'),
    generation: BigInt(number(row, 'generation')),
    updatedAtMs: number(row, 'updated_at_ms'),
    removing: number(row, 'removing') === 1,
  };
}

/** Changes programs of an agent; part of a transaction that others share. */
export function commitPrograms(sql: Sql, { state, programs }: ProgramCommit): ProgramCommitOutcome {
  const missing = programs.find(({ artifact, removing }) => !removing && !hasArtifact(sql, artifact));
  if (missing !== undefined) return { kind: 'no_artifact', digest: missing.artifact };
  const outcome = putDesiredState(sql, state);
  if (outcome.kind !== 'stored') return outcome;
  for (const { name, assignment, artifact, specHash, removing } of programs) {
    const change = [outcome.generation, state.nowMs, removing ? 1 : 0] as const;
    sql.run(PUT, state.agentId, name, assignment, artifact, specHash, ...change);
  }
  return outcome;
}

/** ProgramRepository on one database. */
export class SqlitePrograms extends AgentItems<ProgramRecord> implements ProgramRepository {
  constructor(db: Database) {
    super(db, 'programs', toProgram);
  }

  async list({ agentId, name, assignment, ...page }: ProgramConditions & PageQuery): Promise<Page<ProgramRecord>> {
    return await this.page({ agent_id: agentId, name, assignment }, page);
  }

  async commit(commit: ProgramCommit): Promise<ProgramCommitOutcome> {
    return await this.db.write((sql) => commitPrograms(sql, commit));
  }

  async agents(fromAgentId: string, limit: number): Promise<readonly string[]> {
    return await this.db.read((sql) => sql.all(AGENTS, fromAgentId, limit).map((row) => text(row, 'agent_id')));
  }

  async agentsRemoving(afterAgentId: string, limit: number): Promise<readonly string[]> {
    return await this.db.read((sql) => sql.all(REMOVING, afterAgentId, limit).map((row) => text(row, 'agent_id')));
  }
}

function toRollback(row: Row): RollbackRecord {
  return {
    agentId: text(row, 'agent_id'),
    id: text(row, 'id'),
    program: text(row, 'program'),
    atMs: number(row, 'at_ms'),
    rollback: blob(row, 'rollback'),
  };
}

function addUnit(sql: Sql, rollbacks: readonly RollbackRecord[], keep: number): number {
  const agents = new Set<string>();
  let added = 0;
  for (const { agentId, id, program, atMs, rollback } of rollbacks) {
    const isNew = sql.run(
      `INSERT INTO program_rollbacks (agent_id, id, program, at_ms, rollback) SELECT ?1, ?2, ?3, ?4, ?5
         WHERE EXISTS (SELECT 1 FROM agents WHERE id = ?1) ON CONFLICT DO NOTHING`,
      agentId,
      id,
      program,
      atMs,
      rollback,
    );
    if (isNew === 0) continue;
    added += 1;
    agents.add(agentId);
  }
  for (const agentId of agents) {
    sql.run(
      `DELETE FROM program_rollbacks WHERE number IN
         (SELECT number FROM program_rollbacks WHERE agent_id = ? ORDER BY at_ms DESC, number DESC LIMIT -1 OFFSET ?)`,
      agentId,
      keep,
    );
  }
  return added;
}

/** RollbackRepository on one database. */
export class SqliteRollbacks implements RollbackRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async add(rollbacks: readonly RollbackRecord[], keep: number): Promise<number> {
    return rollbacks.length === 0 ? 0 : await this.#db.write((sql) => addUnit(sql, rollbacks, keep));
  }

  async list(query: { readonly agentId: string; readonly name: string } & PageQuery): Promise<Page<RollbackRecord>> {
    const { agentId, name, pageSize } = query;
    const last = (decodePageToken(query.pageToken) ?? '').split('\n').map(Number);
    const [atMs = Number.MAX_SAFE_INTEGER, place = Number.MAX_SAFE_INTEGER] = last.length === 2 ? last : [];
    const from = [atMs, place].every(Number.isSafeInteger) ? [atMs, place] : [0, 0];
    return await this.#db.read((sql) => {
      const rows = sql.all(
        `SELECT * FROM program_rollbacks WHERE (at_ms, number) < (?1, ?2)
           AND (?3 = '' OR agent_id = ?3) AND (?4 = '' OR program = ?4) ORDER BY at_ms DESC, number DESC LIMIT ?5`,
        ...from,
        agentId,
        name,
        pageSize + 1,
      );
      return pageOf(rows, pageSize, toRollback, (row) => `${text(row, 'at_ms')}\n${text(row, 'number')}`);
    });
  }
}

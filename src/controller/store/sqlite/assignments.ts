// Assignments, their rollouts and what agents were told, on SQLite.
import type { AgentSelector } from '../agent.ts';
import type { Page, PageQuery } from '../page.ts';
import type {
  AssignedAgentRecord,
  AssignmentChange,
  AssignmentOutcome,
  AssignmentRecord,
  AssignmentRepository,
  AssignmentState,
  DeliveryCommit,
  DeliveryOutcome,
  DeliveryRecord,
  RolloutAgentRecord,
  RolloutSummary,
} from '../rollout.ts';
import { selectorConditions } from './agent-rows.ts';
import { hasArtifact } from './artifacts.ts';
import { labels, number, optionalBlob, optionalNumber, optionalText, text } from './column.ts';
import type { Database, Row, Sql } from './database.ts';
import { decodePageToken, pageOf } from './page-token.ts';
import { commitPrograms } from './programs.ts';
import {
  SELECT_SUMMARY,
  toAssignment,
  toDelivery,
  toRollout,
  toRolloutAgent,
  toSummary,
  writeRolloutAgents,
  writeRollouts,
} from './rollout-rows.ts';

/** Number of DesiredStateKind PROGRAMS. */
const PROGRAMS_KIND = 2;

const PUT_ASSIGNMENT = `INSERT OR REPLACE INTO assignments (name, asked, asked_artifact, settled, settled_artifact, revision,
    created_at_ms, updated_at_ms, removing, rollout_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;
const PUT_DELIVERY = `INSERT OR REPLACE INTO assignment_deliveries (assignment, agent_id, spec, artifact, delivery, at_ms)
    VALUES (?, ?, ?, ?, ?, ?)`;

/** Agents `a` with all that is known of them; names are bound to ?1. */
const SELECT_AGENTS = `SELECT a.id AS known_id, a.revoked, a.connection_id, a.connected_at_ms, a.labels,
    d.*, p.generation AS program_generation, p.removing AS program_removing,
    r.generation AS report_generation, r.report, s.refused_generation, s.refused_error
  FROM agents a
  LEFT JOIN assignment_deliveries d ON d.assignment = ?1 AND d.agent_id = a.id
  LEFT JOIN programs p ON p.agent_id = a.id AND p.name = ?1 AND p.assignment = ?1
  LEFT JOIN state_reports r ON r.agent_id = a.id AND r.kind = ${PROGRAMS_KIND}
  LEFT JOIN desired_states s ON s.agent_id = a.id AND s.kind = ${PROGRAMS_KIND}`;

/** Agents that were told something, or are in the rollout under way. */
const CONCERNED = `a.id IN (SELECT agent_id FROM assignment_deliveries WHERE assignment = ?1
    UNION SELECT ra.agent_id FROM rollout_agents ra JOIN assignments o ON o.rollout_id = ra.rollout_id
      JOIN rollouts ro ON ro.id = o.rollout_id WHERE o.name = ?1 AND ro.ended_at_ms IS NULL)`;

function toAgent(row: Row): AssignedAgentRecord {
  const report = optionalBlob(row, 'report');
  const error = optionalBlob(row, 'refused_error');
  const program = optionalNumber(row, 'program_generation');
  return {
    agentId: text(row, 'known_id'),
    valid: number(row, 'revoked') === 0,
    online: text(row, 'connection_id') !== '',
    connectedAtMs: optionalNumber(row, 'connected_at_ms'),
    labels: labels(row, 'labels'),
    delivery: optionalText(row, 'assignment') === undefined ? undefined : toDelivery(row),
    program:
      program === undefined
        ? undefined
        : { generation: BigInt(program), removing: number(row, 'program_removing') === 1 },
    report: report && { generation: BigInt(text(row, 'report_generation')), bytes: report },
    refusal: error && { generation: BigInt(number(row, 'refused_generation')), error },
  };
}

function find(sql: Sql, name: string): AssignmentState | undefined {
  const row = sql.one('SELECT * FROM assignments WHERE name = ?', name);
  if (row === undefined) return undefined;
  const assignment = toAssignment(row);
  const found = sql.one('SELECT * FROM rollouts WHERE id = ? AND ended_at_ms IS NULL', assignment.rolloutId);
  const rollout = found && toRollout(found);
  const agents = rollout === undefined ? [] : agentsOf(sql, rollout.id);
  return { assignment, rollout, agents };
}

function agentsOf(sql: Sql, id: string): readonly RolloutAgentRecord[] {
  return sql.all('SELECT * FROM rollout_agents WHERE rollout_id = ? ORDER BY agent_id', id).map(toRolloutAgent);
}

function* commitUnit(sql: Sql, change: AssignmentChange): Generator<void, AssignmentOutcome, void> {
  const { asked, name, baseRevision, nowMs, settled } = change;
  const row = sql.one('SELECT * FROM assignments WHERE name = ?', name);
  const before = row && toAssignment(row);
  if ((before?.revision ?? 0) !== baseRevision) return { kind: 'conflict' };
  if (asked !== undefined && !hasArtifact(sql, asked.artifact)) return { kind: 'no_artifact', digest: asked.artifact };
  const askedBytes = asked?.bytes ?? before?.asked;
  if (askedBytes === undefined) throw new RangeError(`assignment ${name} is new and asks for nothing`);
  const ids = (change.putRollouts ?? []).map(({ id }) => id);
  const rolloutId = [...ids, before?.rolloutId ?? ''].sort().at(-1)!;
  const revision = baseRevision + 1;
  sql.run(
    PUT_ASSIGNMENT,
    name,
    askedBytes,
    asked?.artifact ?? text(row!, 'asked_artifact'),
    settled?.bytes ?? before?.settled ?? null,
    settled?.artifact ?? (row === undefined ? '' : text(row, 'settled_artifact')),
    revision,
    before?.createdAtMs ?? nowMs,
    before === undefined || asked !== undefined || change.removing === true ? nowMs : before.updatedAtMs,
    (change.removing ?? before?.removing ?? false) ? 1 : 0,
    rolloutId,
  );
  writeRollouts(sql, change.putRollouts ?? []);
  for (const agentId of change.removedAgents ?? []) {
    sql.run('DELETE FROM rollout_agents WHERE rollout_id = ? AND agent_id = ?', rolloutId, agentId);
  }
  const agents = change.putAgents ?? [];
  for (let at = 0; at < agents.length; at += 100) {
    writeRolloutAgents(sql, rolloutId, agents.slice(at, at + 100));
    yield;
  }
  return { kind: 'stored', revision };
}

function* deleteUnit(sql: Sql, name: string, baseRevision: number): Generator<void, boolean, void> {
  if (sql.one('SELECT 1 FROM assignment_deliveries WHERE assignment = ? LIMIT 1', name) !== undefined) return false;
  if (sql.run('DELETE FROM assignments WHERE name = ? AND revision = ?', name, baseRevision) === 0) return false;
  yield* deleteRollouts(sql, sql.all('SELECT id FROM rollouts WHERE assignment = ?', name));
  return true;
}

/** Each may have as many agents as there are. */
function* deleteRollouts(sql: Sql, rows: readonly Row[]): Generator<void, number, void> {
  for (const row of rows) {
    const id = text(row, 'id');
    sql.run('DELETE FROM rollout_agents WHERE rollout_id = ?', id);
    sql.run('DELETE FROM rollouts WHERE id = ?', id);
    yield;
  }
  return rows.length;
}

function tellUnit(sql: Sql, { baseRevision, delivery, programs }: DeliveryCommit): DeliveryOutcome {
  const { agentId, artifact, assignment, atMs, spec } = delivery;
  const known = sql.one('SELECT revision FROM assignments WHERE name = ?', assignment);
  if (known === undefined || number(known, 'revision') !== baseRevision) return { kind: 'conflict' };
  if (sql.one('SELECT 1 FROM agents WHERE id = ?', agentId) === undefined) return { kind: 'missing' };
  if (artifact !== '' && !hasArtifact(sql, artifact)) return { kind: 'no_artifact', digest: artifact };
  const outcome = programs && commitPrograms(sql, programs);
  if (outcome !== undefined && outcome.kind !== 'stored') return outcome;
  sql.run(PUT_DELIVERY, assignment, agentId, spec ?? null, artifact, delivery.delivery, atMs);
  return { kind: 'stored' };
}

/** AssignmentRepository on one database. */
export class SqliteAssignments implements AssignmentRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async get(name: string): Promise<AssignmentState | undefined> {
    return await this.#db.read((sql) => find(sql, name));
  }

  async list({ pageSize, pageToken }: PageQuery): Promise<Page<AssignmentRecord>> {
    const after = decodePageToken(pageToken) ?? '';
    return await this.#db.read((sql) => {
      const rows = sql.all('SELECT * FROM assignments WHERE name > ? ORDER BY name LIMIT ?', after, pageSize + 1);
      return pageOf(rows, pageSize, toAssignment, (row) => text(row, 'name'));
    });
  }

  async commit(change: AssignmentChange): Promise<AssignmentOutcome> {
    return await this.#db.write((sql) => commitUnit(sql, change));
  }

  async delete(name: string, baseRevision: number): Promise<boolean> {
    return await this.#db.write((sql) => deleteUnit(sql, name, baseRevision));
  }

  async agents(name: string, selectors: readonly AgentSelector[]): Promise<readonly AssignedAgentRecord[]> {
    const picked = selectors.map(selectorConditions);
    const conditions = [CONCERNED, ...picked.map(({ sql }) => `(${sql})`)].join(' OR ');
    const values = picked.flatMap((one) => one.values);
    return await this.#db.read((sql) =>
      sql.all(`${SELECT_AGENTS} WHERE ${conditions} ORDER BY a.id`, name, ...values).map(toAgent),
    );
  }

  async tell(commit: DeliveryCommit): Promise<DeliveryOutcome> {
    return await this.#db.write((sql) => tellUnit(sql, commit));
  }

  async forget(taken: readonly DeliveryRecord[]): Promise<void> {
    if (taken.length === 0) return;
    await this.#db.write((sql) => {
      for (const { agentId, assignment, atMs } of taken) {
        sql.run(
          'DELETE FROM assignment_deliveries WHERE assignment = ? AND agent_id = ? AND spec IS NULL AND at_ms = ?',
          assignment,
          agentId,
          atMs,
        );
      }
    });
  }

  async ofAgent(agentId: string): Promise<readonly DeliveryRecord[]> {
    return await this.#db.read((sql) =>
      sql.all('SELECT * FROM assignment_deliveries WHERE agent_id = ? ORDER BY assignment', agentId).map(toDelivery),
    );
  }

  async agentWithOwn(name: string): Promise<string | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one(
        "SELECT agent_id FROM programs WHERE name = ? AND assignment = '' AND removing = 0 LIMIT 1",
        name,
      );
      return row && text(row, 'agent_id');
    });
  }

  async rollout(id: string): Promise<RolloutSummary | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one(`${SELECT_SUMMARY} WHERE r.id = ?`, id);
      return row && toSummary(row);
    });
  }

  async rolloutAgents(id: string, limit: number): Promise<readonly RolloutAgentRecord[]> {
    return await this.#db.read((sql) =>
      sql
        .all(
          `SELECT * FROM rollout_agents WHERE rollout_id = ? ORDER BY step <> 'failed', reason = '', wave, agent_id LIMIT ?`,
          id,
          limit,
        )
        .map(toRolloutAgent),
    );
  }

  async listRollouts({
    assignment,
    pageSize,
    pageToken,
  }: PageQuery & { readonly assignment: string }): Promise<Page<RolloutSummary>> {
    const before = decodePageToken(pageToken) ?? '\u{10ffff}';
    return await this.#db.read((sql) => {
      const rows = sql.all(
        `${SELECT_SUMMARY} WHERE r.id < ?1 AND (?2 = '' OR r.assignment = ?2) ORDER BY r.id DESC LIMIT ?3`,
        before,
        assignment,
        pageSize + 1,
      );
      return pageOf(rows, pageSize, toSummary, (row) => text(row, 'id'));
    });
  }

  async deleteEndedRollouts(beforeMs: number, limit: number): Promise<number> {
    const ended =
      'SELECT id FROM rollouts WHERE ended_at_ms < ? AND id NOT IN (SELECT rollout_id FROM assignments) LIMIT ?';
    return await this.#db.write((sql) => deleteRollouts(sql, sql.all(ended, beforeMs, limit)));
  }
}

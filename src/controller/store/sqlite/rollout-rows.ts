// Rows of rollouts and their agents as records, and the statements that write them.
import type {
  AssignmentRecord,
  Delivery,
  DeliveryRecord,
  RolloutAgentRecord,
  RolloutAgentStep,
  RolloutPhase,
  RolloutRecord,
  RolloutSummary,
} from '../rollout.ts';
import { blob, number, optionalBlob, optionalNumber, text } from './column.ts';
import type { Row, Sql } from './database.ts';

/** Reads rollouts as `toSummary` takes them; agents of one are looked at once. */
export const SELECT_SUMMARY = `SELECT r.*,
    (SELECT json_array(count(*), total(step = 'current'), total(reason <> ''), total(step = 'offline'))
      FROM rollout_agents a WHERE a.rollout_id = r.id) AS counts
  FROM rollouts r`;

const PUT_ROLLOUT = `INSERT OR REPLACE INTO rollouts (id, assignment, asked, before, phase, paused, reason, wave, waves,
    phase_at_ms, started_at_ms, ended_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;
const PUT_AGENT = `INSERT OR REPLACE INTO rollout_agents (rollout_id, agent_id, wave, step, reason, since_ms, rollback_id)
    VALUES (?, ?, ?, ?, ?, ?, ?)`;

export function toAssignment(row: Row): AssignmentRecord {
  return {
    name: text(row, 'name'),
    asked: blob(row, 'asked'),
    settled: optionalBlob(row, 'settled'),
    revision: number(row, 'revision'),
    createdAtMs: number(row, 'created_at_ms'),
    updatedAtMs: number(row, 'updated_at_ms'),
    removing: number(row, 'removing') === 1,
    rolloutId: text(row, 'rollout_id'),
  };
}

export function toRollout(row: Row): RolloutRecord {
  return {
    id: text(row, 'id'),
    assignment: text(row, 'assignment'),
    asked: blob(row, 'asked'),
    before: optionalBlob(row, 'before'),
    phase: text(row, 'phase') as RolloutPhase,
    paused: number(row, 'paused') === 1,
    reason: text(row, 'reason'),
    wave: number(row, 'wave'),
    waves: number(row, 'waves'),
    phaseAtMs: number(row, 'phase_at_ms'),
    startedAtMs: number(row, 'started_at_ms'),
    endedAtMs: optionalNumber(row, 'ended_at_ms'),
  };
}

export function toSummary(row: Row): RolloutSummary {
  const [all, current, failed, offline] = JSON.parse(text(row, 'counts')) as [number, number, number, number];
  return { rollout: toRollout(row), counts: { all, current, failed, offline } };
}

export function toRolloutAgent(row: Row): RolloutAgentRecord {
  return {
    agentId: text(row, 'agent_id'),
    wave: number(row, 'wave'),
    step: text(row, 'step') as RolloutAgentStep,
    reason: text(row, 'reason'),
    sinceMs: number(row, 'since_ms'),
    rollbackId: text(row, 'rollback_id'),
  };
}

export function toDelivery(row: Row): DeliveryRecord {
  return {
    assignment: text(row, 'assignment'),
    agentId: text(row, 'agent_id'),
    spec: optionalBlob(row, 'spec'),
    artifact: text(row, 'artifact'),
    delivery: text(row, 'delivery') as Delivery,
    atMs: number(row, 'at_ms'),
  };
}

/** Writes rollouts; part of a transaction. */
export function writeRollouts(sql: Sql, rollouts: readonly RolloutRecord[]): void {
  for (const r of rollouts) {
    const place = [r.phase, r.paused ? 1 : 0, r.reason, r.wave, r.waves] as const;
    const times = [r.phaseAtMs, r.startedAtMs, r.endedAtMs ?? null] as const;
    sql.run(PUT_ROLLOUT, r.id, r.assignment, r.asked, r.before ?? null, ...place, ...times);
  }
}

/** Writes agents of a rollout; part of a transaction. */
export function writeRolloutAgents(sql: Sql, id: string, agents: readonly RolloutAgentRecord[]): void {
  for (const a of agents) sql.run(PUT_AGENT, id, a.agentId, a.wave, a.step, a.reason, a.sinceMs, a.rollbackId);
}

/** Who wants an artifact because of an assignment, for people; undefined if nobody does. */
export function assignmentWanting(sql: Sql, artifact: string): string | undefined {
  const row = sql.one(
    `SELECT name FROM assignments WHERE asked_artifact = ?1 OR settled_artifact = ?1
       UNION SELECT assignment AS name FROM assignment_deliveries WHERE artifact = ?1 LIMIT 1`,
    artifact,
  );
  return row && `assignment ${text(row, 'name')}`;
}

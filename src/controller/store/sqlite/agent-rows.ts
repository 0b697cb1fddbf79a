// Rows of the agents table as records, and selectors as conditions on them.
import { AgentState } from '#gen/longline/v1/agent_pb.js';
import type { AgentCandidate, AgentRecord, AgentSelector } from '../agent.ts';
import { labels, number, optionalBlob, optionalNumber, optionalText, text } from './column.ts';
import type { Row } from './database.ts';

/** State of an agent `a`, from its columns. */
export const STATE_SQL = `CASE
  WHEN a.revoked = 1 THEN ${AgentState.REVOKED}
  WHEN a.connection_id <> '' AND a.drain_reason IS NOT NULL THEN ${AgentState.DRAINING}
  WHEN a.connection_id <> '' THEN ${AgentState.ONLINE}
  WHEN a.connected_at_ms IS NULL THEN ${AgentState.ENROLLED}
  ELSE ${AgentState.OFFLINE} END`;

/** Reads agents as `toAgent` takes them. */
export const SELECT_AGENT = `SELECT a.*, ${STATE_SQL} AS state, i.certificate_expires_at_ms
  FROM agents a LEFT JOIN agent_identities i ON i.agent_id = a.id`;

/** An agent from a row. */
export function toAgent(row: Row): AgentRecord {
  return {
    id: text(row, 'id'),
    state: number(row, 'state'),
    labels: labels(row, 'labels'),
    assignedLabels: labels(row, 'assigned_labels'),
    facts: optionalBlob(row, 'facts'),
    factsDigest: optionalBlob(row, 'facts_digest'),
    usage: optionalBlob(row, 'usage'),
    instanceId: text(row, 'instance_id'),
    bootId: text(row, 'boot_id'),
    leaderEpoch: BigInt(text(row, 'leader_epoch')),
    connectionId: text(row, 'connection_id'),
    replicaId: text(row, 'replica_id'),
    enrolledAtMs: number(row, 'enrolled_at_ms'),
    connectedAtMs: optionalNumber(row, 'connected_at_ms'),
    seenAtMs: optionalNumber(row, 'seen_at_ms'),
    certificateExpiresAtMs: optionalNumber(row, 'certificate_expires_at_ms'),
    roundTripMs: optionalNumber(row, 'round_trip_ms'),
    drainReason: optionalText(row, 'drain_reason'),
    revoked: number(row, 'revoked') === 1,
    revokeReason: text(row, 'revoke_reason'),
  };
}

/** A candidate from a row. */
export function toCandidate(row: Row): AgentCandidate {
  const offersJobs = optionalNumber(row, 'offers_jobs');
  return {
    id: text(row, 'id'),
    online: text(row, 'connection_id') !== '',
    drained: row['drain_reason'] !== null,
    revoked: number(row, 'revoked') === 1,
    offersJobs: offersJobs === undefined ? undefined : offersJobs === 1,
    runningJobs: number(row, 'running_jobs'),
    queuedJobs: number(row, 'queued_jobs'),
    maxJobs: number(row, 'max_jobs'),
    openCommands: number(row, 'open_commands'),
  };
}

/** A condition on agents `a` and the values it binds. */
export interface Conditions {
  readonly sql: string;
  readonly values: readonly string[];
}

/** The condition that a selector makes. */
export function selectorConditions(selector: AgentSelector): Conditions {
  const conditions = ['1 = 1'];
  const values: string[] = [];
  for (const [key, value] of Object.entries(selector.matchLabels)) {
    conditions.push('EXISTS (SELECT 1 FROM json_each(a.labels) l WHERE l.key = ? AND l.value = ?)');
    values.push(key, value);
  }
  for (const key of selector.hasLabels) {
    conditions.push('EXISTS (SELECT 1 FROM json_each(a.labels) l WHERE l.key = ?)');
    values.push(key);
  }
  if (selector.agentIds.length > 0) {
    conditions.push('a.id IN (SELECT value FROM json_each(?))');
    values.push(JSON.stringify(selector.agentIds));
  }
  return { sql: conditions.join(' AND '), values };
}

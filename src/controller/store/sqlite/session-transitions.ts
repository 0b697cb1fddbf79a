// The moves of a session, as statements within a unit: what its agent says of it, and what follows from the end of a
// command. What is only concluded here leaves the status revision alone, so that the agent's next word goes before it.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { ErrorReason, type Error as WireError } from '#gen/longline/v1/error_pb.js';
import { JobState } from '#gen/longline/v1/job_pb.js';
import {
  SessionCause,
  SessionResultSchema,
  SessionSpecSchema,
  SessionState,
  type SessionStatus,
  SessionStatusSchema,
} from '#gen/longline/v1/session_pb.js';
import { hasEnded } from '../session-state.ts';
import { number, optionalBlob, text } from './column.ts';
import type { Row, Sql } from './database.ts';

const SELECT = `SELECT id, generation, agent_id, state, status, status_revision, start_id FROM sessions WHERE id = ?`;

/** True if it is newer than what is stored. */
function isNews(row: Row, status: SessionStatus): boolean {
  const generation = number(row, 'generation');
  const said = Number(status.generation);
  return said === generation ? Number(status.revision) > number(row, 'status_revision') : said > generation;
}

function store(sql: Sql, status: SessionStatus, nowMs: number): void {
  sql.run(
    `UPDATE sessions SET state = ?, status = ?, status_revision = ?, generation = ?, updated_at_ms = ?,
       revision = revision + 1 WHERE id = ?`,
    status.state,
    toBinary(SessionStatusSchema, status),
    Number(status.revision),
    Number(status.generation),
    nowMs,
    status.sessionId,
  );
}

/** A live session that isn't known: it was started by another controller, or before this store was restored. */
function takeIn(sql: Sql, agentId: string, status: SessionStatus, nowMs: number): boolean {
  if (hasEnded(status.state)) return false;
  const spec = create(SessionSpecSchema, { image: status.image });
  sql.run(
    `INSERT INTO sessions (id, number, generation, agent_id, spec, spec_hash, template, template_version, owner, labels, cpus,
       memory_bytes, creator, request_id, created_at_ms, updated_at_ms, state, start_id, operation_id)
     VALUES (?, (SELECT coalesce(max(number), 0) + 1 FROM sessions), ?, ?, ?, ?, '', 0, '', '{}', 0, 0, '', '', ?, ?, ?, '', '')`,
    status.sessionId,
    Number(status.generation),
    agentId,
    toBinary(SessionSpecSchema, spec),
    status.specHash,
    nowMs,
    nowMs,
    status.state,
  );
  store(sql, status, nowMs);
  return true;
}

/** Stores what an agent says of one session. True if it was news. */
export function applyStatus(sql: Sql, agentId: string, status: SessionStatus, nowMs: number): boolean {
  const row = sql.one(SELECT, status.sessionId);
  if (row === undefined) return takeIn(sql, agentId, status, nowMs);
  if (text(row, 'agent_id') !== agentId || !isNews(row, status)) return false;
  store(sql, status, nowMs);
  return true;
}

/** How a session ended, as far as this controller can tell. */
interface ConcludedEnd {
  readonly cause: SessionCause;
  readonly reason: string;
  readonly error: WireError | undefined;
}

function conclude(sql: Sql, row: Row, end: ConcludedEnd, nowMs: number): void {
  const before = optionalBlob(row, 'status');
  const status = before === undefined ? create(SessionStatusSchema) : fromBinary(SessionStatusSchema, before);
  status.sessionId = text(row, 'id');
  status.generation = BigInt(number(row, 'generation'));
  status.state = SessionState.FAILED;
  status.cause = end.cause;
  status.reason = end.reason;
  if (end.error !== undefined) status.error = end.error;
  status.changeTime = timestampFromMs(nowMs);
  status.endTime = timestampFromMs(nowMs);
  sql.run(
    'UPDATE sessions SET state = ?, status = ?, updated_at_ms = ?, revision = revision + 1 WHERE id = ?',
    SessionState.FAILED,
    toBinary(SessionStatusSchema, status),
    nowMs,
    text(row, 'id'),
  );
}

/** The agent doesn't know a session any more. */
export function loseSession(sql: Sql, row: Row, reason: string, nowMs: number): void {
  const error = create(SessionResultSchema, { error: { reason: ErrorReason.NOT_FOUND, message: reason } }).error;
  conclude(sql, row, { cause: SessionCause.LOST, reason, error }, nowMs);
}

const CAUSES: Readonly<Partial<Record<JobState, SessionCause>>> = {
  [JobState.REJECTED]: SessionCause.REJECTED,
  [JobState.CANCELLED]: SessionCause.CANCELLED,
  [JobState.FAILED]: SessionCause.START_FAILED,
  [JobState.TIMED_OUT]: SessionCause.START_TIMEOUT,
};

/** A command of a session ended: takes what the result says of it; a start that came to nothing ends the session. */
export function settleSession(sql: Sql, command: Row, state: JobState, resultBytes: Uint8Array, nowMs: number): void {
  const sessionId = text(command, 'session_id');
  const result = fromBinary(SessionResultSchema, resultBytes);
  if (result.status !== undefined && result.status.sessionId === sessionId) {
    applyStatus(sql, text(command, 'agent_id'), result.status, nowMs);
  }
  const row = sql.one(SELECT, sessionId);
  const isStart = row !== undefined && text(row, 'start_id') === text(command, 'id');
  const cause = CAUSES[state];
  const unspoken = isStart && number(row, 'status_revision') === 0 && !hasEnded(number(row, 'state'));
  if (unspoken && cause !== undefined) {
    conclude(sql, row, { cause, reason: result.error?.message ?? '', error: result.error }, nowMs);
  } else {
    touchSession(sql, sessionId, nowMs);
  }
}

/** Its operation changed. */
export function touchSession(sql: Sql, sessionId: string, nowMs: number): void {
  sql.run(
    'UPDATE sessions SET revision = revision + 1, updated_at_ms = max(updated_at_ms, ?) WHERE id = ?',
    nowMs,
    sessionId,
  );
}

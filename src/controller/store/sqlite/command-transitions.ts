// The moves of a command, as statements within a unit. Each keeps the job's rolled-up state in step.
import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { Outcome, ResultSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { JobReason, JobResultSchema, type JobState, JobState as JobStates } from '#gen/longline/v1/job_pb.js';
import { SessionResultSchema } from '#gen/longline/v1/session_pb.js';
import type { CommandChange } from '../command.ts';
import { rollUp } from '../job-state.ts';
import { number, text } from './column.ts';
import type { Row, Sql } from './database.ts';
import { settleSession, touchSession } from './session-transitions.ts';

/** Numbers of the command states in the schema. */
export const STATE = { stored: 1, sent: 2, received: 3, ended: 4, rejected: 5 } as const;

/** Columns that every move needs. */
export const MOVE_COLUMNS = 'id, agent_id, job_id, session_id, capability, verb, state, job_state, guessed';

/** Counts the executions of a new job. */
export function countNewCommands(sql: Sql, jobId: string, commands: number): void {
  sql.run('INSERT INTO job_states (job_id, state, count) VALUES (?, ?, ?)', jobId, JobStates.PENDING, commands);
}

/** What others are told about a moved command. */
export function changeOf(row: Row): CommandChange {
  return {
    commandId: text(row, 'id'),
    jobId: text(row, 'job_id'),
    sessionId: text(row, 'session_id'),
    agentId: text(row, 'agent_id'),
  };
}

/** Keeps the job's counts and state in step with its command that goes from where it is to another state. */
export function moveJobState(sql: Sql, row: Row, to: JobState): void {
  const from = number(row, 'job_state');
  if (from === to || isOfPrograms(row)) return;
  const jobId = text(row, 'job_id');
  const left = sql.one(
    'UPDATE job_states SET count = count - 1 WHERE job_id = ? AND state = ? RETURNING count',
    jobId,
    from,
  );
  const entered = sql.one(
    'INSERT INTO job_states (job_id, state, count) VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count',
    jobId,
    to,
  );
  // Only which states there are decides: of a job on ten thousand agents nearly no move changes that.
  if (left !== undefined && number(left, 'count') > 0 && entered !== undefined && number(entered, 'count') > 1) return;
  const states = sql.all('SELECT state FROM job_states WHERE job_id = ? AND count > 0', jobId);
  const rolledUp = rollUp(states.map((row) => number(row, 'state')));
  sql.run('UPDATE jobs SET state = ?1 WHERE id = ?2 AND state <> ?1', rolledUp, jobId);
}

/** Marks a command as durable on its agent; also takes back an end that was a guess. */
export function markReceived(sql: Sql, row: Row, nowMs: number): void {
  const from = number(row, 'job_state');
  const to = from === JobStates.PENDING || number(row, 'guessed') === 1 ? JobStates.QUEUED : from;
  sql.run(
    `UPDATE commands SET state = ${STATE.received}, job_state = ?, received_at_ms = coalesce(received_at_ms, ?),
       ended_at_ms = NULL, result = NULL, guessed = 0, version = version + 1 WHERE id = ?`,
    to,
    nowMs,
    text(row, 'id'),
  );
  if (isOfSession(row)) touchSession(sql, text(row, 'session_id'), nowMs);
  else moveJobState(sql, row, to);
}

/** True for a command of a session. */
export function isOfSession(row: Row): boolean {
  return text(row, 'session_id') !== '';
}

/** True for a command about programs: it is of no job, though others wait for it as for one with its id. */
export function isOfPrograms(row: Row): boolean {
  return text(row, 'capability') === 'programs';
}

/** How a command ended. */
export interface CommandEnd {
  readonly jobState: JobState;
  /** Serialised JobResult, SessionResult if it is a command of a session, or link Result if it is one about programs. */
  readonly result: Uint8Array;
  readonly rejected: boolean;
  /** True if the controller had to guess. */
  readonly guessed: boolean;
  readonly nowMs: number;
}

/** Ends a command. */
export function endCommand(sql: Sql, row: Row, end: CommandEnd): void {
  sql.run(
    `UPDATE commands SET state = ?, job_state = ?, result = ?, guessed = ?, ended_at_ms = ?, version = version + 1
     WHERE id = ?`,
    end.rejected ? STATE.rejected : STATE.ended,
    end.jobState,
    end.result,
    end.guessed ? 1 : 0,
    end.nowMs,
    text(row, 'id'),
  );
  if (!isOfSession(row)) {
    moveJobState(sql, row, end.jobState);
    return;
  }
  settleSession(sql, row, end.jobState, end.result, end.nowMs);
  // A statement may hold a password: it is kept no longer than it may have to be sent.
  if (!end.guessed) sql.run('DELETE FROM statements WHERE job_id = ?', text(row, 'id'));
}

/** Why the controller itself ends a command. */
export type LocalEnd = 'expired' | 'cancelled' | 'lost';

const LOCAL_ENDS = {
  expired: {
    state: JobStates.REJECTED,
    reason: JobReason.REJECTED,
    error: ErrorReason.LATE,
    message:
      'expired before the agent confirmed it; submit it again, with a longer ttl if the agent is away for longer',
  },
  cancelled: {
    state: JobStates.CANCELLED,
    reason: JobReason.CANCELLED,
    error: ErrorReason.CANCELLED,
    message: 'cancelled before it was sent to the agent; nothing was done',
  },
  lost: {
    state: JobStates.INDETERMINATE,
    reason: JobReason.INTERRUPTED,
    error: ErrorReason.INTERNAL,
    message: 'the agent no longer knows this command: it may or may not have been done',
  },
} as const;

function localResult(row: Row, kind: LocalEnd, nowMs: number): Uint8Array {
  const { state, reason, error, message } = LOCAL_ENDS[kind];
  const said = { reason: error, message };
  if (isOfSession(row)) return toBinary(SessionResultSchema, create(SessionResultSchema, { error: said }));
  const endTime = timestampFromMs(nowMs);
  if (!isOfPrograms(row))
    return toBinary(JobResultSchema, create(JobResultSchema, { state, reason, endTime, error: said }));
  const outcome = kind === 'lost' ? Outcome.INDETERMINATE : Outcome.FAILED;
  return toBinary(
    ResultSchema,
    create(ResultSchema, { commandId: text(row, 'id'), outcome, time: endTime, error: said }),
  );
}

/** Ends a command without the agent's word. */
export function endLocally(sql: Sql, row: Row, kind: LocalEnd, nowMs: number): void {
  endCommand(sql, row, {
    jobState: LOCAL_ENDS[kind].state,
    result: localResult(row, kind, nowMs),
    rejected: kind === 'expired',
    // What was never sent can't have run: that end is certain.
    guessed: number(row, 'state') !== STATE.stored,
    nowMs,
  });
}

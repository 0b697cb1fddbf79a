// Between the link's messages and the store's records. Pure.
import { create, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { timestampDate, timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type AuditCheckpoint,
  type Command,
  CommandSchema,
  Outcome,
  type Progress,
  type Rejected,
  type Result,
  ResultSchema,
} from '#gen/longline/link/v1/link_pb.js';
import type { AgentFacts, AgentUsage } from '#gen/longline/v1/agent_pb.js';
import { ErrorReason, ErrorSchema, type Error as WireError } from '#gen/longline/v1/error_pb.js';
import { type JobProgress, JobProgressSchema, JobReason, JobResultSchema, JobState } from '#gen/longline/v1/job_pb.js';
import { SessionProgressSchema, type SessionResult, SessionResultSchema } from '#gen/longline/v1/session_pb.js';
import { type HostEvent, HostEventSchema } from '#gen/longline/v1/telemetry_pb.js';
import { LonglineError, type Reason } from '../../core/errors.ts';
import type { AgentLoad, Labels, SessionRoom } from '../store/agent.ts';
import type { AuditCheckpointRecord } from '../store/audit-checkpoint.ts';
import type { ClaimedCommand, ProgressUpdate, ResultUpdate } from '../store/command.ts';
import { isEnded } from '../store/job-state.ts';

const OUTCOME_STATES: Readonly<Record<Outcome, JobState>> = {
  [Outcome.UNSPECIFIED]: JobState.INDETERMINATE,
  [Outcome.SUCCEEDED]: JobState.SUCCEEDED,
  [Outcome.FAILED]: JobState.FAILED,
  [Outcome.CANCELLED]: JobState.CANCELLED,
  [Outcome.TIMED_OUT]: JobState.TIMED_OUT,
  [Outcome.INDETERMINATE]: JobState.INDETERMINATE,
};

/** A result as it is stored. A detail whose state isn't an end is overruled by the outcome. */
export function resultUpdate(result: Result, agentId: string, nowMs: number): ResultUpdate {
  const state = OUTCOME_STATES[result.outcome] ?? JobState.INDETERMINATE;
  const detail = result.detail.case === 'job' ? result.detail.value : create(JobResultSchema);
  if (!isEnded(detail.state)) detail.state = state;
  if (detail.error === undefined && result.error !== undefined) detail.error = result.error;
  if (detail.endTime === undefined && result.time !== undefined) detail.endTime = result.time;
  return {
    commandId: result.commandId,
    agentId,
    rejected: false,
    jobState: detail.state,
    result: toBinary(JobResultSchema, detail),
    sessionResult: toBinary(SessionResultSchema, sessionResult(result)),
    programResult: programResult(result),
    nowMs,
  };
}

/** What is read of it later: how it ended, and how that came about. */
function programResult({ commandId, outcome, detail, error, time }: Result): Uint8Array {
  const told = create(ResultSchema, { commandId, outcome, ...(error && { error }), ...(time && { time }) });
  if (detail.case === 'program') told.detail = detail;
  return toBinary(ResultSchema, told);
}

function sessionResult({ detail, error }: Result): SessionResult {
  const result = detail.case === 'session' ? detail.value : create(SessionResultSchema);
  if (result.error === undefined && error !== undefined) result.error = error;
  return result;
}

/** A refusal as it is stored. */
export function rejectionUpdate(rejected: Rejected, agentId: string, nowMs: number): ResultUpdate {
  const detail = create(JobResultSchema, {
    state: JobState.REJECTED,
    reason: JobReason.REJECTED,
    ...(rejected.error === undefined ? {} : { error: rejected.error }),
  });
  return {
    commandId: rejected.commandId,
    agentId,
    rejected: true,
    jobState: JobState.REJECTED,
    result: toBinary(JobResultSchema, detail),
    sessionResult: toBinary(
      SessionResultSchema,
      create(SessionResultSchema, rejected.error === undefined ? {} : { error: rejected.error }),
    ),
    programResult: programResult(
      create(ResultSchema, {
        commandId: rejected.commandId,
        outcome: Outcome.FAILED,
        ...(rejected.error === undefined ? {} : { error: rejected.error }),
      }),
    ),
    nowMs,
  };
}

function stateOfStep(progress: JobProgress): JobState | undefined {
  switch (progress.step.case) {
    case 'queued':
      return JobState.QUEUED;
    case 'pulling':
    case 'creating':
      return JobState.PREPARING;
    case 'started':
    case 'adopted':
      return JobState.RUNNING;
    case 'stopping':
      return JobState.STOPPING;
    default:
      return undefined;
  }
}

/** A step as it is stored; undefined for steps of capabilities that this program doesn't know. */
export function progressUpdate(progress: Progress, agentId: string): ProgressUpdate | undefined {
  if (progress.detail.case === 'session') {
    return {
      commandId: progress.commandId,
      agentId,
      number: Number(progress.number),
      progress: toBinary(SessionProgressSchema, progress.detail.value),
      jobState: JobState.RUNNING,
    };
  }
  if (progress.detail.case !== 'job') return undefined;
  const job = progress.detail.value;
  return {
    commandId: progress.commandId,
    agentId,
    number: Number(progress.number),
    progress: toBinary(JobProgressSchema, job),
    jobState: stateOfStep(job),
  };
}

/** Load as placement sees it. */
export function loadOf(usage: AgentUsage): AgentLoad {
  const { runningJobs, queuedJobs, maxJobs, sessionCapacity: room } = usage;
  if (room === undefined) return { runningJobs, queuedJobs, maxJobs };
  const sessions = sessionRoom(room.maxSessions, room.maxCpus, Number(room.maxMemoryBytes));
  return { runningJobs, queuedJobs, maxJobs, sessions };
}

const soundNumber = (value: number | undefined): number =>
  value !== undefined && Number.isFinite(value) ? Math.min(Math.max(0, value), Number.MAX_SAFE_INTEGER) : 0;

function sessionRoom(
  sessions: number | undefined,
  cpus: number | undefined,
  memoryBytes: number | undefined,
): SessionRoom {
  return {
    maxSessions: Math.floor(soundNumber(sessions)),
    maxCpus: soundNumber(cpus),
    maxMemoryBytes: Math.floor(soundNumber(memoryBytes)),
  };
}

/** What placement of sessions needs of the facts. */
export function sessionsOffer(facts: AgentFacts): { readonly offersSessions: boolean; readonly sessions: SessionRoom } {
  const offer = facts.capabilities.find((capability) => capability.name === 'sessions');
  const limits = offer?.limits ?? {};
  return {
    offersSessions: offer?.available ?? false,
    sessions: sessionRoom(limits['max_sessions'], limits['max_cpus'], limits['max_memory_bytes']),
  };
}

const LABEL_KEY = /^[A-Za-z0-9._/-]{1,63}$/;
const MAX_LABEL_VALUE = 255;

/** Labels an agent gave itself, without those whose form isn't allowed. */
export function ownLabels(facts: AgentFacts): Labels {
  const allowed = ([key, value]: [string, string]): boolean => LABEL_KEY.test(key) && value.length <= MAX_LABEL_VALUE;
  return Object.fromEntries(Object.entries(facts.labels).filter(allowed));
}

/** What placement needs of the facts. */
export function jobsOffer(facts: AgentFacts): { readonly offersJobs: boolean; readonly maxJobs: number } {
  const jobs = facts.capabilities.find((capability) => capability.name === 'jobs');
  const limit = jobs?.limits['max_concurrent_jobs'] ?? 0;
  return { offersJobs: jobs?.available ?? false, maxJobs: Number.isFinite(limit) ? Math.max(0, Math.floor(limit)) : 0 };
}

/** A checkpoint as it is stored; undefined if its form is wrong. Whether it is true, `audit verify` checks. */
export function checkpointRecord(
  checkpoint: AuditCheckpoint,
  agentId: string,
  storedAtMs: number,
): AuditCheckpointRecord | undefined {
  const [signature] = checkpoint.signed?.signatures ?? [];
  const sound =
    checkpoint.chainId !== '' &&
    checkpoint.chainId.length <= 64 &&
    checkpoint.sequence <= BigInt(Number.MAX_SAFE_INTEGER) &&
    checkpoint.head.length === 32 &&
    checkpoint.publicKey.length === 32;
  if (!sound || signature === undefined || checkpoint.signed === undefined || checkpoint.time === undefined)
    return undefined;
  return {
    agentId,
    chainId: checkpoint.chainId,
    sequence: Number(checkpoint.sequence),
    head: checkpoint.head,
    signedAtMs: timestampDate(checkpoint.time).getTime(),
    storedAtMs,
    publicKey: checkpoint.publicKey,
    payload: checkpoint.signed.payload,
    signature: signature.value,
  };
}

/** An error as it travels inside messages. Causes never travel. */
export function toWireError(error: LonglineError): WireError {
  const key = error.reason.toUpperCase() as keyof typeof ErrorReason;
  return create(ErrorSchema, {
    reason: ErrorReason[key],
    message: error.message,
    retryable: error.retryable,
    violations: error.violations.map((violation) => ({ ...violation })),
    rule: error.rule ?? '',
  });
}

/** What an agent says went wrong, as an error that can be thrown on. */
export function errorFromWire(error: WireError): LonglineError {
  const name = ErrorReason[error.reason] ?? 'UNSPECIFIED';
  const reason = (name === 'UNSPECIFIED' ? 'INTERNAL' : name).toLowerCase() as Reason;
  return new LonglineError(reason, error.message, {
    retryable: error.retryable,
    violations: error.violations.map(({ field, description }) => ({ field, description })),
    ...(error.rule === '' ? {} : { rule: error.rule }),
  });
}

/**
 * A stored command, to be encoded for its agent and the replica of it that leads in an epoch. Its statement is carried as the bytes that are stored, in place of the field:
 * thousands of agents may share one, and each decoding would be followed by an encoding.
 */
export function commandMessage(command: ClaimedCommand, leaderEpoch: bigint): Command {
  const { id, seq, statement, traceparent, tracestate, createdAtMs, expiresAtMs } = command;
  const message = create(CommandSchema, {
    seq: BigInt(seq),
    id,
    issueTime: timestampFromMs(createdAtMs),
    expireTime: timestampFromMs(expiresAtMs),
    traceparent,
    tracestate,
    leaderEpoch,
  });
  const data = new BinaryWriter().bytes(statement).finish();
  message.$unknown = [{ no: CommandSchema.field.statement.number, wireType: WireType.LengthDelimited, data }];
  return message;
}

const MAX_EVENT_TEXT = 4096;
const MAX_EVENT_FACT = 1024;
const MAX_EVENT_FACTS = 32;

/** An event as it is kept: an agent may say what it wants, but not how much. */
export function boundedEvent(event: HostEvent): HostEvent {
  const cut = (text: string, most: number) =>
    (text.length > most ? `${text.slice(0, most - 1)}…` : text).toWellFormed();
  const facts = Object.entries(event.attributes)
    .slice(0, MAX_EVENT_FACTS)
    .map(([name, value]) => [cut(name, 128), cut(value, MAX_EVENT_FACT)]);
  return create(HostEventSchema, {
    type: cut(event.type, 128),
    message: cut(event.message, MAX_EVENT_TEXT),
    capability: cut(event.capability, 128),
    attributes: Object.fromEntries(facts),
    ...(event.time === undefined ? {} : { time: event.time }),
  });
}

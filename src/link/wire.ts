// Conversions between the domain values of core and the messages of the link. Pure.
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import {
  type Duration,
  DurationSchema,
  type Timestamp,
  TimestampSchema,
  timestampDate,
  timestampFromMs,
} from '@bufbuild/protobuf/wkt';
import {
  type AgentMessage,
  AgentMessageSchema,
  type Progress,
  ProgressSchema,
  type Rejected,
  RejectedSchema,
  type Result,
  ResultSchema,
  Outcome as WireOutcome,
} from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason, ErrorSchema, type Error as WireError } from '#gen/longline/v1/error_pb.js';
import { JobProgressSchema, JobResultSchema } from '#gen/longline/v1/job_pb.js';
import { NetworkProgressSchema, NetworkResultSchema } from '#gen/longline/v1/network_pb.js';
import { ProgramProgressSchema, ProgramResultSchema } from '#gen/longline/v1/program_pb.js';
import { SessionProgressSchema, SessionResultSchema } from '#gen/longline/v1/session_pb.js';
import { WorkloadProgressSchema, WorkloadResultSchema } from '#gen/longline/v1/workload_pb.js';
import type { Outcome } from '../core/capability.ts';
import { LonglineError, type Reason, toLonglineError } from '../core/errors.ts';

interface CapabilityMessages {
  readonly slot: 'job' | 'session' | 'network' | 'program' | 'workload';
  readonly progress: DescMessage;
  readonly result: DescMessage;
}

const CAPABILITY_MESSAGES: Readonly<Record<string, CapabilityMessages>> = {
  jobs: { slot: 'job', progress: JobProgressSchema, result: JobResultSchema },
  sessions: { slot: 'session', progress: SessionProgressSchema, result: SessionResultSchema },
  network: { slot: 'network', progress: NetworkProgressSchema, result: NetworkResultSchema },
  programs: { slot: 'program', progress: ProgramProgressSchema, result: ProgramResultSchema },
  workloads: { slot: 'workload', progress: WorkloadProgressSchema, result: WorkloadResultSchema },
};

const REASONS: Readonly<Record<Reason, ErrorReason>> = {
  invalid: ErrorReason.INVALID,
  not_found: ErrorReason.NOT_FOUND,
  already_exists: ErrorReason.ALREADY_EXISTS,
  wrong_state: ErrorReason.WRONG_STATE,
  stale: ErrorReason.STALE,
  limit: ErrorReason.LIMIT,
  unavailable: ErrorReason.UNAVAILABLE,
  late: ErrorReason.LATE,
  cancelled: ErrorReason.CANCELLED,
  policy: ErrorReason.POLICY,
  identity: ErrorReason.IDENTITY,
  unsupported: ErrorReason.UNSUPPORTED,
  internal: ErrorReason.INTERNAL,
};

const OUTCOMES: Readonly<Record<Outcome, WireOutcome>> = {
  succeeded: WireOutcome.SUCCEEDED,
  failed: WireOutcome.FAILED,
  cancelled: WireOutcome.CANCELLED,
  timed_out: WireOutcome.TIMED_OUT,
  indeterminate: WireOutcome.INDETERMINATE,
};

const LONGEST_MESSAGE = 8192;
const LONGEST_TEXT = 1024;
const MOST_VIOLATIONS = 100;

/**
 * A thrown value as it may travel: causes stay here. Texts are cut, since what a peer sent may stand in them and the reply
 * must fit into a message and a record of the journal.
 */
export function wireError(thrown: unknown): WireError {
  const error = toLonglineError(thrown);
  return create(ErrorSchema, {
    reason: REASONS[error.reason],
    message: cut(error.message, LONGEST_MESSAGE),
    retryable: error.retryable,
    violations: error.violations.slice(0, MOST_VIOLATIONS).map(({ field, description }) => ({
      field: cut(field, LONGEST_TEXT),
      description: cut(description, LONGEST_TEXT),
    })),
    ...(error.retryAfterMs !== undefined && { retryAfter: wireDuration(error.retryAfterMs) }),
    rule: cut(error.rule ?? '', LONGEST_TEXT),
  });
}

function cut(text: string, longest: number): string {
  return text.length <= longest ? text : `${text.slice(0, longest - 1)}…`.toWellFormed();
}

/** Milliseconds as a Duration, rounded to microseconds. */
export function wireDuration(ms: number): Duration {
  const micros = Math.round(ms * 1000);
  const seconds = Math.trunc(micros / 1e6);
  return create(DurationSchema, { seconds: BigInt(seconds), nanos: (micros - seconds * 1e6) * 1000 });
}

/** A Duration in milliseconds; undefined stays undefined. */
export function durationMs(duration: Duration | undefined): number | undefined {
  return duration && Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** Milliseconds since the epoch as a Timestamp. */
export function wireTime(ms: number): Timestamp {
  return timestampFromMs(ms);
}

/** Milliseconds since the epoch as the bytes of a Timestamp. */
export function encodeTime(ms: number): Uint8Array {
  return toBinary(TimestampSchema, wireTime(ms));
}

/** A Timestamp in milliseconds since the epoch; undefined stays undefined. */
export function timeMs(time: Timestamp | undefined): number | undefined {
  return time && timestampDate(time).getTime();
}

/** Bytes in lower-case hex. */
export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** A command and when something became of it. */
export interface ReplyHead {
  readonly commandId: string;
  readonly seq: bigint;
  readonly nowMs: number;
}

/** The Result of a command. Throws `internal` if the capability's detail isn't its result message. */
export function resultMessage(
  head: ReplyHead,
  capability: string,
  outcome: Outcome,
  detail: Uint8Array,
  error: unknown,
): AgentMessage {
  const value: Result = create(ResultSchema, {
    commandId: head.commandId,
    seq: head.seq,
    outcome: OUTCOMES[outcome],
    time: wireTime(head.nowMs),
    ...(error !== undefined && { error: wireError(error) }),
  });
  value.detail = parseDetail(capability, 'result', detail) as Result['detail'];
  return create(AgentMessageSchema, { message: { case: 'result', value } });
}

/** The Rejected of a command. */
export function rejectedMessage(head: Omit<ReplyHead, 'nowMs'>, error: unknown): AgentMessage {
  const value: Rejected = create(RejectedSchema, {
    commandId: head.commandId,
    seq: head.seq,
    error: wireError(error),
  });
  return create(AgentMessageSchema, { message: { case: 'rejected', value } });
}

/** A Progress. Throws `internal` if the capability's detail isn't its progress message. */
export function progressMessage(
  commandId: string,
  number: bigint,
  nowMs: number,
  capability: string,
  detail: Uint8Array,
): AgentMessage {
  const value: Progress = create(ProgressSchema, { commandId, number, time: wireTime(nowMs) });
  value.detail = parseDetail(capability, 'progress', detail) as Progress['detail'];
  return create(AgentMessageSchema, { message: { case: 'progress', value } });
}

/** Serialises any message to the agent's side of Control. */
export function encodeAgentMessage(message: AgentMessage): Uint8Array {
  return toBinary(AgentMessageSchema, message);
}

/** Parses what `encodeAgentMessage` wrote. */
export function decodeAgentMessage(bytes: Uint8Array): AgentMessage {
  return fromBinary(AgentMessageSchema, bytes);
}

function parseDetail(
  capability: string,
  kind: 'progress' | 'result',
  detail: Uint8Array,
): { case: CapabilityMessages['slot']; value: MessageShape<DescMessage> } | { case: undefined } {
  if (detail.length === 0) return { case: undefined };
  const messages = CAPABILITY_MESSAGES[capability];
  if (messages === undefined) {
    throw new LonglineError('internal', `no ${kind} message is defined for capability "${capability}"`);
  }
  return { case: messages.slot, value: fromBinary(messages[kind], detail) };
}

// The only file of the capability that knows generated code: bytes of longline.v1 messages to and from domain values.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt';
import { type Error as ErrorMessage, ErrorReason, ErrorSchema } from '#gen/longline/v1/error_pb.js';
import {
  JobMetadataSchema,
  JobProgressSchema,
  JobReason,
  JobResultSchema,
  type JobSpec as JobSpecMessage,
  JobSpecSchema,
  JobState,
  type NetworkMode,
  type PullPolicy,
  type StdinMode,
} from '#gen/longline/v1/job_pb.js';
import { JobActionSchema } from '#gen/longline/v1/signature_pb.js';
import type { Outcome } from '../../core/capability.ts';
import { LonglineError } from '../../core/errors.ts';
import type { JobEnding, JobEndReason, JobEndState, JobStep, StopCause } from './events.ts';

export type { JobSpecMessage };

/** The spec in a serialised longline.v1.JobAction. Throws `invalid` if there is none or the bytes aren't one. */
export function decodeJobAction(action: Uint8Array): JobSpecMessage {
  let decoded: ReturnType<typeof create<typeof JobActionSchema>>;
  try {
    decoded = fromBinary(JobActionSchema, action);
  } catch (cause) {
    throw new LonglineError('invalid', 'the action is not a longline.v1.JobAction', { cause });
  }
  if (decoded.action.case !== 'run') {
    throw new LonglineError('unsupported', 'the job action has a kind that this agent does not know; it knows "run"');
  }
  return decoded.action.value;
}

/** A spec that asks for nothing but an image: every default, for the pool's first containers. */
export function emptyJobSpec(image: string): JobSpecMessage {
  return create(JobSpecSchema, { image, argv: ['true'] });
}

/** Where standard input comes from; undefined for a value that isn't known. */
export function stdinModeOf(value: StdinMode): 'none' | 'inline' | 'stream' | undefined {
  return ({ 0: 'none', 1: 'none', 2: 'inline', 3: 'stream' } as const)[value];
}

/** Network of the container; undefined for a value that isn't known. */
export function networkModeOf(value: NetworkMode): 'none' | 'bridge' | 'host' | 'named' | undefined {
  return ({ 0: 'none', 1: 'none', 2: 'bridge', 3: 'host', 4: 'named' } as const)[value];
}

/** When to fetch the image; undefined for a value that isn't known. */
export function pullPolicyOf(value: PullPolicy): 'if_missing' | 'always' | 'never' | undefined {
  return ({ 0: 'if_missing', 1: 'if_missing', 2: 'always', 3: 'never' } as const)[value];
}

/** Milliseconds of a duration, rounded up to whole ones; NaN if it is malformed. */
export function durationMs(duration: Duration): number {
  const { seconds, nanos } = duration;
  const opposed = (seconds > 0n && nanos < 0) || (seconds < 0n && nanos > 0);
  if (opposed || Math.abs(nanos) > 999_999_999) return Number.NaN;
  return Number(seconds) * 1000 + Math.ceil(nanos / 1e6);
}

/** Serialised size of a job's metadata. */
export function metadataBytes(spec: JobSpecMessage): number {
  return spec.metadata === undefined ? 0 : toBinary(JobMetadataSchema, spec.metadata).length;
}

/** A step as a serialised longline.v1.JobProgress. */
export function encodeStep(step: JobStep): Uint8Array {
  return toBinary(JobProgressSchema, create(JobProgressSchema, { step: stepMessage(step) }));
}

/** An ending as a serialised longline.v1.JobResult. */
export function encodeEnding(ending: JobEnding): Uint8Array {
  const message = create(JobResultSchema, {
    state: STATES[ending.state],
    reason: REASONS[ending.reason],
    signal: ending.signal,
    oomKilled: ending.oomKilled,
    endTime: timestamp(ending.endedAtMs),
    stdoutBytes: BigInt(ending.stdoutBytes),
    stderrBytes: BigInt(ending.stderrBytes),
    outputTruncated: ending.truncated,
    memoryPeakBytes: BigInt(ending.memoryPeakBytes),
    image: ending.image,
    containerId: ending.containerId,
    warm: ending.warm,
    queueTime: duration(ending.queueMs * 1e6),
  });
  if (ending.exitCode !== undefined) message.exitCode = ending.exitCode;
  if (ending.startedAtMs !== undefined) message.startTime = timestamp(ending.startedAtMs);
  if (ending.cpuNanos > 0) message.cpuTime = duration(ending.cpuNanos);
  if (ending.error !== undefined) message.error = errorMessage(ending.error);
  return toBinary(JobResultSchema, message);
}

/** The outcome that the link reports for a final state. */
export const OUTCOME: Readonly<Record<JobEndState, Outcome>> = {
  succeeded: 'succeeded',
  failed: 'failed',
  cancelled: 'cancelled',
  timed_out: 'timed_out',
  rejected: 'failed',
  indeterminate: 'indeterminate',
};

const STATES: Readonly<Record<JobEndState, JobState>> = {
  succeeded: JobState.SUCCEEDED,
  failed: JobState.FAILED,
  cancelled: JobState.CANCELLED,
  timed_out: JobState.TIMED_OUT,
  rejected: JobState.REJECTED,
  indeterminate: JobState.INDETERMINATE,
};

const REASONS: Readonly<Record<JobEndReason, JobReason>> = {
  exited: JobReason.EXITED,
  signaled: JobReason.SIGNALED,
  out_of_memory: JobReason.OUT_OF_MEMORY,
  timeout: JobReason.TIMEOUT,
  cancelled: JobReason.CANCELLED,
  image_unavailable: JobReason.IMAGE_UNAVAILABLE,
  start_failed: JobReason.START_FAILED,
  engine_lost: JobReason.ENGINE_LOST,
  rejected: JobReason.REJECTED,
  interrupted: JobReason.INTERRUPTED,
  host_limit: JobReason.HOST_LIMIT,
};

const STOP_REASONS: Readonly<Record<StopCause, JobReason>> = {
  cancelled: JobReason.CANCELLED,
  timeout: JobReason.TIMEOUT,
  host_limit: JobReason.HOST_LIMIT,
};

function stepMessage(step: JobStep): NonNullable<Parameters<typeof create<typeof JobProgressSchema>>[1]>['step'] & {} {
  switch (step.kind) {
    case 'queued':
      return { case: 'queued', value: { position: step.position } };
    case 'pulling':
      return {
        case: 'pulling',
        value: {
          image: step.image,
          attempt: step.attempt,
          layersTotal: step.layersTotal,
          layersDone: step.layersDone,
          bytesTotal: BigInt(step.bytesTotal),
          bytesDone: BigInt(step.bytesDone),
        },
      };
    case 'creating':
      return { case: 'creating', value: { image: step.image } };
    case 'started': {
      const { containerId, warm } = step;
      return { case: 'started', value: { containerId, warm, startTime: timestamp(step.atMs) } };
    }
    case 'stopping':
      return { case: 'stopping', value: { reason: STOP_REASONS[step.cause], signal: step.signal } };
    case 'out_of_memory':
      return { case: 'outOfMemory', value: { main: step.main } };
    case 'adopted': {
      const { containerId, stdoutOffset, stderrOffset } = step;
      return {
        case: 'adopted',
        value: { containerId, stdoutOffset: BigInt(stdoutOffset), stderrOffset: BigInt(stderrOffset) },
      };
    }
  }
}

function errorMessage(error: LonglineError): ErrorMessage {
  const message = create(ErrorSchema, {
    reason: ErrorReason[error.reason.toUpperCase() as keyof typeof ErrorReason],
    message: error.message,
    retryable: error.retryable,
    violations: error.violations.map(({ field, description }) => ({ field, description })),
    rule: error.rule ?? '',
  });
  if (error.retryAfterMs !== undefined) message.retryAfter = duration(error.retryAfterMs * 1e6);
  return message;
}

function timestamp(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1000);
  return create(TimestampSchema, { seconds: BigInt(seconds), nanos: Math.floor((ms - seconds * 1000) * 1e6) });
}

function duration(nanos: number): Duration {
  const seconds = Math.floor(nanos / 1e9);
  return create(DurationSchema, { seconds: BigInt(seconds), nanos: Math.floor(nanos - seconds * 1e9) });
}

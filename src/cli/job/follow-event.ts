// What following a job gives, whatever connection it came over.
import type { ExecutionOutput } from '#gen/longline/fleet/v1/job_service_pb.js';
import type { Job, JobExecution } from '#gen/longline/v1/job_pb.js';
import { GapReason } from '#gen/longline/v1/log_pb.js';
import type { StreamOffsets } from './stream-offsets.ts';

/** Output of one stream of one execution, each byte once and in order. */
export type OutputEvent =
  /** Bytes. */
  | {
      readonly kind: 'bytes';
      readonly executionId: string;
      readonly agentId: string;
      readonly stream: string;
      readonly offset: bigint;
      readonly data: Uint8Array;
      /** Milliseconds since the epoch; undefined if the agent didn't say. */
      readonly capturedAtMs: number | undefined;
    }
  /** Bytes that are lost for good, and why in one word. */
  | {
      readonly kind: 'gap';
      readonly executionId: string;
      readonly agentId: string;
      readonly stream: string;
      readonly bytes: bigint;
      readonly reason: string;
    }
  /** The log of this execution ended. */
  | { readonly kind: 'closed'; readonly executionId: string; readonly agentId: string };

/** One thing that happened to a followed job. */
export type FollowEvent =
  | OutputEvent
  /** The job as it stands: first when it was stored, again after a broken connection. */
  | { readonly kind: 'job'; readonly job: Job }
  /** An execution changed. */
  | { readonly kind: 'execution'; readonly execution: JobExecution }
  /** The connection broke; another try follows. */
  | { readonly kind: 'reconnecting'; readonly message: string }
  /** Everything has ended and was shown. Last. */
  | { readonly kind: 'finished'; readonly job: Job };

/** Turns a part of the output into events, leaving out what was seen. */
export function* outputEvents(output: ExecutionOutput, offsets: StreamOffsets): Generator<OutputEvent> {
  const { executionId, agentId, part } = output;
  const base = { executionId, agentId };
  if (part.case === 'chunk') {
    const { stream, offset, data, captureTime } = part.value;
    const accepted = offsets.take(executionId, stream, offset, data);
    if (accepted.missing > 0n) yield { kind: 'gap', ...base, stream, bytes: accepted.missing, reason: 'undeclared' };
    if (accepted.data.length === 0) return;
    yield {
      kind: 'bytes',
      ...base,
      stream,
      offset: offset + BigInt(data.length - accepted.data.length),
      data: accepted.data,
      capturedAtMs:
        captureTime === undefined ? undefined : Number(captureTime.seconds) * 1000 + captureTime.nanos / 1e6,
    };
  } else if (part.case === 'gap') {
    const { stream, from, to, reason } = part.value;
    const bytes = offsets.skip(executionId, stream, from, to);
    if (bytes > 0n) yield { kind: 'gap', ...base, stream, bytes, reason: gapReasonName(reason) };
  } else if (part.case === 'close') yield { kind: 'closed', ...base };
}

/** "output limit" for GapReason.OUTPUT_LIMIT. */
export function gapReasonName(reason: GapReason): string {
  return (GapReason[reason] ?? 'unknown').toLowerCase().replaceAll('_', ' ');
}

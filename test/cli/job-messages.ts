// Jobs and executions as a controller would send them, for tests.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type RunJobResponse, RunJobResponseSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import {
  type Job,
  type JobExecution,
  JobExecutionSchema,
  JobReason,
  type JobResultSchema,
  JobSchema,
  JobState,
} from '#gen/longline/v1/job_pb.js';

/** Time at which all jobs of the tests start. */
export const START_MS = Date.UTC(2030, 0, 31, 12);

/** An execution that its agent doesn't have yet. */
export function pending(id = 'e1', agentId = 'web-1'): JobExecution {
  return create(JobExecutionSchema, { id, agentId, state: JobState.PENDING, createTime: timestampFromMs(START_MS) });
}

/** An execution that runs. */
export function running(id = 'e1', agentId = 'web-1'): JobExecution {
  return create(JobExecutionSchema, { id, agentId, state: JobState.RUNNING, createTime: timestampFromMs(START_MS) });
}

/** An execution that ended; exit code 0 unless told otherwise. */
export function ended(
  result: MessageInitShape<typeof JobResultSchema> = {},
  state: JobState = JobState.SUCCEEDED,
  id = 'e1',
  agentId = 'web-1',
): JobExecution {
  const whole = {
    state,
    reason: JobReason.EXITED,
    exitCode: 0,
    startTime: timestampFromMs(START_MS),
    endTime: timestampFromMs(START_MS + 1500),
    stdoutBytes: 3n,
    stderrBytes: 1n,
    ...result,
  };
  return create(JobExecutionSchema, { id, agentId, state, result: whole, createTime: timestampFromMs(START_MS) });
}

/** A job with these executions. */
export function jobOf(...executions: JobExecution[]): Job {
  return create(JobSchema, {
    id: 'j1',
    executions,
    state: executions[0]?.state ?? JobState.SUCCEEDED,
    spec: { argv: ['echo', 'hi'] },
    creator: 'tester',
    createTime: timestampFromMs(START_MS),
  });
}

/** Output of an execution. */
export function chunk(
  data: Uint8Array | string,
  offset = 0n,
  stream = 'stdout',
  executionId = 'e1',
  agentId = 'web-1',
) {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  const value = { stream, offset, data: bytes, captureTime: timestampFromMs(START_MS) };
  return { executionId, agentId, part: { case: 'chunk' as const, value } };
}

/** A declared hole. */
export function gap(from: bigint, to: bigint, reason: number, stream = 'stdout') {
  return { executionId: 'e1', agentId: 'web-1', part: { case: 'gap' as const, value: { stream, from, to, reason } } };
}

/** The end of a log. */
export function close(executionId = 'e1', agentId = 'web-1') {
  return { executionId, agentId, part: { case: 'close' as const, value: { streams: [] } } };
}

/** One event of RunJob. */
export function event(init: MessageInitShape<typeof RunJobResponseSchema>['event']): RunJobResponse {
  return create(RunJobResponseSchema, init === undefined ? {} : { event: init });
}

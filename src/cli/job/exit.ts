// The exit code of `job run` and `job wait`.

import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { type Job, type JobExecution, JobReason, JobState } from '#gen/longline/v1/job_pb.js';
import type { Reason } from '../../core/errors.ts';
import { EXIT, exitCodeOf } from '../exit-code.ts';

/** The job could not be run, or nobody knows how it ended: the code that container tools use for that. */
export const EXIT_NOT_RUN = 125;

const SIGNALLED = 128;

/** For help texts. */
export const JOB_EXIT_CODES = `Exit code: that of the job's main process (128 + n if signal n ended it); 124 if its time limit passed,
130 if it was cancelled, 137 if it was killed for memory; what \`longline\` itself would give (2, 4, 124, …) if the
agent refused it; 125 if it couldn't be started or nobody knows how it ended. Several agents: the highest of theirs.`;

/** What one execution makes of the exit code; 1 while it has not ended. */
export function executionExitCode(execution: JobExecution): number {
  const { state, result } = execution;
  switch (state) {
    case JobState.SUCCEEDED:
      return EXIT.ok;
    case JobState.TIMED_OUT:
      return EXIT.timeout;
    case JobState.CANCELLED:
      return EXIT.interrupted;
    case JobState.REJECTED: {
      const reason = (ErrorReason[result?.error?.reason ?? 0] ?? '').toLowerCase();
      return reason === 'unspecified' || reason === '' ? EXIT.denied : exitCodeOf(reason as Reason);
    }
    case JobState.INDETERMINATE:
      return EXIT_NOT_RUN;
    case JobState.FAILED:
      return failedExitCode(execution);
    default:
      return EXIT.failed;
  }
}

function failedExitCode({ result }: JobExecution): number {
  if (result?.reason === JobReason.OUT_OF_MEMORY) return result.exitCode || SIGNALLED + 9;
  const ran = result?.reason === JobReason.EXITED || result?.reason === JobReason.SIGNALED;
  if (!ran) return EXIT_NOT_RUN;
  return result.exitCode === undefined || result.exitCode === 0 ? EXIT.failed : result.exitCode & 0xff || EXIT.failed;
}

/** The highest code of all executions; 125 for a job without any. */
export function jobExitCode(job: Job): number {
  if (job.executions.length === 0) return EXIT_NOT_RUN;
  return Math.max(...job.executions.map(executionExitCode));
}

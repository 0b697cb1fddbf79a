// Waiting for the end of a job, over as many connections as it takes.
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import type { Job } from '#gen/longline/v1/job_pb.js';
import { formatDuration } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Fleet } from '../fleet-connection.ts';
import { ReconnectBudget } from './reconnect-budget.ts';

const LONGEST_CALL_MS = 20_000;
const CALL_MARGIN_MS = 10_000;

/** The job once it has ended. Throws `late` if `limitMs` passes first; the job goes on. */
export async function waitForJob(
  fleet: Fleet,
  jobId: string,
  limitMs: number | undefined,
  signal: AbortSignal,
): Promise<Job> {
  const budget = new ReconnectBudget();
  const startMs = performance.now();
  for (;;) {
    const leftMs = limitMs === undefined ? LONGEST_CALL_MS : limitMs - (performance.now() - startMs);
    const waitMs = Math.max(0, Math.min(LONGEST_CALL_MS, Math.round(leftMs)));
    try {
      const timeoutMs = waitMs + CALL_MARGIN_MS;
      const answer = await fleet.jobs.waitResult({ jobId, timeout: durationFromMs(waitMs) }, { signal, timeoutMs });
      budget.progress();
      if (answer.done) return answer.job!;
    } catch (error) {
      signal.throwIfAborted();
      await budget.wait(error, (thrown) => fleet.toError(thrown), signal);
    }
    if (limitMs !== undefined && performance.now() - startMs >= limitMs) {
      throw new LonglineError('late', `job ${jobId} has not ended within ${formatDuration(limitMs)}; it goes on`);
    }
  }
}

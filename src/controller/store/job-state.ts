// How the states of many executions make the state of their job. Pure.
import { JobState } from '#gen/longline/v1/job_pb.js';

/** From best to worst. A job has ended only when all its executions have, so every open state is worse than every end. */
const BEST_TO_WORST: readonly JobState[] = [
  JobState.SUCCEEDED,
  JobState.CANCELLED,
  JobState.REJECTED,
  JobState.TIMED_OUT,
  JobState.FAILED,
  JobState.INDETERMINATE,
  JobState.PENDING,
  JobState.QUEUED,
  JobState.PREPARING,
  JobState.RUNNING,
  JobState.STOPPING,
];

/** True for states that an execution doesn't leave. */
export function isEnded(state: JobState): boolean {
  return state >= JobState.SUCCEEDED;
}

/** Worst of the states; PENDING if there are none. */
export function rollUp(states: Iterable<JobState>): JobState {
  let worst = -1;
  for (const state of states) worst = Math.max(worst, BEST_TO_WORST.indexOf(state));
  return BEST_TO_WORST[worst] ?? JobState.PENDING;
}

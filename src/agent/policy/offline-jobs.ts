// The bounds of jobs for tools that look at a policy away from its host: what the agent has without configuration.
import { type JobsConfig, parseJobsConfig } from '../../capabilities/jobs/config.ts';

/** Bounds with these allowed images; all if undefined. Throws `invalid` for a malformed pattern. */
export function offlineJobs(allowedImages: readonly string[] | undefined): JobsConfig {
  return parseJobsConfig(allowedImages === undefined ? {} : { allowedImages });
}

// Finding jobs and executions by the ids that callers have.
import { fromBinary } from '@bufbuild/protobuf';
import { type Job, type JobResult, JobResultSchema } from '#gen/longline/v1/job_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import type { CommandRecord } from '../store/command.ts';
import type { JobRecord } from '../store/job.ts';
import type { Store } from '../store/store.ts';
import { jobView } from './views.ts';

const PAGE = 1000;
const MAX_ID = 64;

/** What an id names: a job, or one execution of it. */
export interface FoundJob {
  readonly job: JobRecord;
  /** Set if the id is that of an execution. */
  readonly execution: CommandRecord | undefined;
}

/** Finds by job id or execution id; throws `not_found`. */
export async function findJob(store: Store, id: string): Promise<FoundJob> {
  if (id === '' || id.length > MAX_ID) {
    throw invalid([
      { field: 'job_id', description: `'${id.slice(0, MAX_ID)}' must be the id of a job or an execution` },
    ]);
  }
  const job = await store.jobs.get(id);
  if (job !== undefined) return { job, execution: undefined };
  const execution = await store.commands.get(id);
  const owner = execution === undefined ? undefined : await store.jobs.get(execution.jobId);
  if (execution === undefined || owner === undefined)
    throw new LonglineError('not_found', `no job or execution has id ${id}`);
  return { job: owner, execution };
}

/** The one execution that an id names; a job with several is refused as `invalid`. */
export async function findExecution(store: Store, id: string): Promise<CommandRecord> {
  const { job, execution } = await findJob(store, id);
  if (execution !== undefined) return execution;
  const { items, nextPageToken } = await store.commands.listByJob(job.id, { pageSize: 1, pageToken: '' });
  if (items.length === 1 && nextPageToken === '') return items[0]!;
  const count = await store.commands.countByJob(job.id);
  throw invalid([{ field: 'job_id', description: `job ${id} has ${count} executions; give the id of one of them` }]);
}

/** All executions of a job, oldest first. */
export async function executionsOf(store: Store, jobId: string): Promise<CommandRecord[]> {
  const all: CommandRecord[] = [];
  for (let pageToken = ''; ; ) {
    const page = await store.commands.listByJob(jobId, { pageSize: PAGE, pageToken });
    all.push(...page.items);
    if (page.nextPageToken === '') return all;
    pageToken = page.nextPageToken;
  }
}

/** A job as it stands now. */
export async function currentView(store: Store, jobId: string): Promise<Job> {
  const { job } = await findJob(store, jobId);
  return jobView(job, await executionsOf(store, jobId));
}

/** True if an ended execution wrote output. */
export function wroteOutput(execution: CommandRecord): boolean {
  if (execution.result === undefined) return false;
  const result: JobResult = fromBinary(JobResultSchema, execution.result);
  return result.stdoutBytes + result.stderrBytes > 0n;
}

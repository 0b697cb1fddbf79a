// JobService for Connect. It checks, stores and reads; what carries a job to its agent is woken over the bus. Every stream
// ends when its caller leaves.

import type { Duration } from '@bufbuild/protobuf/wkt';
import { durationMs, timestampMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import type { JobService } from '#gen/longline/fleet/v1/job_service_pb.js';
import type { Job } from '#gen/longline/v1/job_pb.js';
import { invalid } from '../../core/errors.ts';
import { agentTopic, jobTopic } from '../bus/topics.ts';
import { publishChanges } from '../dispatch/sweeper.ts';
import { callerOf } from '../identity/authorization.ts';
import type { CommandRecord } from '../store/command.ts';
import { isEnded } from '../store/job-state.ts';
import { writeInput } from './input-writer.ts';
import { followJob } from './job-follower.ts';
import { currentView, executionsOf, findExecution, findJob } from './job-lookup.ts';
import { followLog, readLog } from './log-follower.ts';
import { rangeOf } from './log-range.ts';
import { labelViolations, pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { submitJob } from './submission.ts';
import { jobView } from './views.ts';
import { nextWithin } from './waiting.ts';

const DEFAULT_WAIT_MS = 60_000;
const MAX_WAIT_MS = 3_600_000;
const MAX_REASON = 1024;

/** Executions in one answer of ListJobs, over all its jobs; a page ends early rather than grow past it. */
const MAX_LISTED_EXECUTIONS = 5000;

async function cancelOne(needs: ServiceDependencies, execution: CommandRecord, reason: string): Promise<void> {
  const { store, bus, clock } = needs;
  const outcome = await store.commands.requestCancel(execution.id, reason, clock.now());
  if (outcome.kind === 'unchanged') return;
  publishChanges(bus, [outcome.change]);
  if (outcome.kind === 'requested') bus.publish(agentTopic(execution.agentId), { kind: 'cancels' });
}

async function cancelJob(needs: ServiceDependencies, id: string, reason: string): Promise<Job> {
  if (reason.length > MAX_REASON) {
    throw invalid([
      { field: 'reason', description: `has ${reason.length} characters; at most ${MAX_REASON} are allowed` },
    ]);
  }
  const { job, execution } = await findJob(needs.store, id);
  const executions = execution === undefined ? await executionsOf(needs.store, job.id) : [execution];
  const open = executions.filter(({ jobState }) => !isEnded(jobState));
  await Promise.all(open.map((command) => cancelOne(needs, command, reason)));
  return await currentView(needs.store, job.id);
}

async function isDone(
  { store }: ServiceDependencies,
  jobId: string,
  executionId: string | undefined,
): Promise<boolean> {
  const state =
    executionId === undefined
      ? (await store.jobs.get(jobId))?.state
      : (await store.commands.get(executionId))?.jobState;
  return state === undefined || isEnded(state);
}

async function waitForEnd(
  needs: ServiceDependencies,
  id: string,
  limitMs: number,
  signal: AbortSignal,
): Promise<{ readonly job: Job; readonly done: boolean }> {
  const { store, bus, clock, options } = needs;
  const { job, execution } = await findJob(store, id);
  using changes = await bus.subscribe(jobTopic(job.id), 1);
  const deadline = clock.monotonic() + limitMs;
  let done = await isDone(needs, job.id, execution?.id);
  while (!done && !signal.aborted && clock.monotonic() < deadline) {
    await nextWithin(changes, clock, Math.min(options.recheckMs, deadline - clock.monotonic()), signal);
    done = await isDone(needs, job.id, execution?.id);
  }
  return { job: await currentView(store, job.id), done };
}

/** Aborts when an execution has ended. Disposing stops looking. */
async function watchEnd(
  needs: ServiceDependencies,
  execution: CommandRecord,
): Promise<{ readonly ended: AbortSignal } & Disposable> {
  const ended = new AbortController();
  const look = async () => {
    if (await isDone(needs, execution.jobId, execution.id)) ended.abort();
  };
  const listening = await needs.bus.listen(jobTopic(execution.jobId), () => void look().catch(() => undefined));
  await look();
  return { ended: ended.signal, [Symbol.dispose]: () => listening[Symbol.dispose]() };
}

function waitLimitMs(timeout: Duration | undefined): number {
  const limitMs = timeout === undefined ? DEFAULT_WAIT_MS : durationMs(timeout);
  if (limitMs >= 0 && limitMs <= MAX_WAIT_MS) return limitMs;
  throw invalid([{ field: 'timeout', description: `is ${limitMs} ms; must be 0 to 1 h` }]);
}

/** JobService over store, bus and logs. */
export function createJobService(needs: ServiceDependencies): ServiceImpl<typeof JobService> {
  const { store } = needs;
  return {
    async *runJob({ job }, context) {
      const submitted = await submitJob(needs, job, {
        creator: callerOf(context).name,
        headers: context.requestHeader,
      });
      yield { event: { case: 'submitted', value: submitted } };
      yield* followJob(needs, submitted.id, context.signal);
      if (!context.signal.aborted) yield { event: { case: 'finished', value: await currentView(store, submitted.id) } };
    },

    async submitJob({ job }, context) {
      return { job: await submitJob(needs, job, { creator: callerOf(context).name, headers: context.requestHeader }) };
    },

    async getJob({ jobId }) {
      const { job } = await findJob(store, jobId);
      return { job: jobView(job, await executionsOf(store, job.id)) };
    },

    async listJobs(request) {
      const violations = labelViolations(request.matchLabels, 'match_labels');
      if (violations.length > 0) throw invalid(violations);
      const { agentId, states, matchLabels, since } = request;
      const sinceMs = since === undefined ? undefined : timestampMs(since);
      const query = { agentId, states, matchLabels, sinceMs };
      return await listJobs(needs, (page) => store.jobs.list({ ...query, ...page }), pageQuery(request));
    },

    async cancelJob({ jobId, reason }, context) {
      const by = `cancelled by ${callerOf(context).name}`;
      return { job: await cancelJob(needs, jobId, reason === '' ? by : `${by}: ${reason}`) };
    },

    async *tailLogs(request, context) {
      const range = rangeOf(request);
      const execution = await findExecution(store, request.jobId);
      if (!request.follow) {
        for await (const output of readLog(needs, execution, range, context.signal)) yield { output };
        return;
      }
      using watch = await watchEnd(needs, execution);
      const followed = { execution, range, ended: watch.ended, signal: context.signal };
      for await (const output of followLog(needs, followed)) yield { output };
    },

    async waitResult({ jobId, timeout }, context) {
      return await waitForEnd(needs, jobId, waitLimitMs(timeout), context.signal);
    },

    async writeInput(request, context) {
      return await writeInput(needs, request, context.signal);
    },
  };
}

type ListPage = (page: ReturnType<typeof pageQuery>) => ReturnType<ServiceDependencies['store']['jobs']['list']>;

/** Lists jobs with their executions; a page with very many executions is cut short. */
async function listJobs(
  needs: ServiceDependencies,
  list: ListPage,
  page: ReturnType<typeof pageQuery>,
): Promise<{ jobs: Job[]; nextPageToken: string }> {
  const found = await list(page);
  const jobs: Job[] = [];
  let executions = 0;
  for (const job of found.items) {
    const view = jobView(job, await executionsOf(needs.store, job.id));
    executions += view.executions.length;
    if (jobs.length > 0 && executions > MAX_LISTED_EXECUTIONS) {
      return { jobs, nextPageToken: (await list({ ...page, pageSize: jobs.length })).nextPageToken };
    }
    jobs.push(view);
  }
  return { jobs, nextPageToken: found.nextPageToken };
}

// From a checked request to stored commands: picks the agents, makes or takes the statement, stores everything at once and
// wakes whoever holds the agents' streams.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { create, toBinary } from '@bufbuild/protobuf';
import type { JobRequest } from '#gen/longline/fleet/v1/job_service_pb.js';
import { type Job, JobSpecSchema, JobTargetSchema } from '#gen/longline/v1/job_pb.js';
import { type Action, ActionSchema, SignedPayloadSchema } from '#gen/longline/v1/signature_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { noTracer, traced } from '../../core/tracer.ts';
import { agentTopic } from '../bus/topics.ts';
import type { JobSubmission, NewCommand } from '../store/job.ts';
import { currentView } from './job-lookup.ts';
import { type CheckedRequest, checkRequest } from './job-request.ts';
import { everyAgent, leastLoaded } from './placement.ts';
import { selectorOf } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { agentRefusal, type SubmissionContext, traceOf } from './submission-context.ts';

/** Agents that share one statement: signing once per agent would take seconds for a large fleet, once for all megabytes. */
const AGENTS_PER_STATEMENT = 50;

/** Most agents that are woken before their commands are stored, beside after it. */
const WOKEN_AHEAD = 16;

async function chooseAgents({ store }: ServiceDependencies, request: CheckedRequest): Promise<readonly string[]> {
  const { target } = request.target;
  switch (target.case) {
    case 'agentId':
      return [target.value];
    case 'anyOf': {
      const candidates = await store.agents.candidates(selectorOf(target.value));
      const covered = await coveredIds(store, request);
      return [leastLoaded(covered === undefined ? candidates : candidates.filter(({ id }) => covered.has(id)))];
    }
    case 'allOf':
      return everyAgent(await store.agents.candidates(selectorOf(target.value)));
  }
}

/** Ids that a statement signed elsewhere is meant for; undefined if the controller signs. */
async function coveredIds(
  store: ServiceDependencies['store'],
  request: CheckedRequest,
): Promise<ReadonlySet<string> | undefined> {
  if (request.foreign === undefined) return undefined;
  const covered = await store.agents.candidates(request.foreign.audience);
  return new Set(covered.map(({ id }) => id));
}

function checkCovered(agentIds: readonly string[], covered: ReadonlySet<string> | undefined): void {
  const missed = covered === undefined ? [] : agentIds.filter((id) => !covered.has(id));
  if (missed.length === 0) return;
  const named = missed.slice(0, 5).join(', ') + (missed.length > 5 ? ` and ${missed.length - 5} more` : '');
  throw invalid([
    {
      field: 'job.signed.payload.audience',
      description: `doesn't cover ${named}: sign for them too, or narrow the target`,
    },
  ]);
}

interface PreparedStatements {
  readonly statements: readonly Uint8Array[];
  readonly commands: readonly NewCommand[];
}

function prepare(
  needs: ServiceDependencies,
  request: CheckedRequest,
  agentIds: readonly string[],
  nowMs: number,
): PreparedStatements {
  const { foreign, spec, expiresAtMs } = request;
  const perStatement = foreign === undefined ? AGENTS_PER_STATEMENT : agentIds.length;
  const commands = agentIds.map((agentId, index) => ({
    id: newId(nowMs),
    agentId,
    statement: Math.floor(index / perStatement),
  }));
  if (foreign !== undefined) return { statements: [toBinary(SignedPayloadSchema, foreign.signed)], commands };
  const action: Action = create(ActionSchema, {
    action: { case: 'job', value: { action: { case: 'run', value: spec } } },
  });
  const statements: Uint8Array[] = [];
  for (let at = 0; at < agentIds.length; at += perStatement) {
    const audience = agentIds.slice(at, at + perStatement);
    statements.push(needs.signer.sign({ action, agentIds: audience, issuedAtMs: nowMs, expiresAtMs }));
  }
  return { statements, commands };
}

async function repeated(
  needs: ServiceDependencies,
  jobId: string,
  sameContent: boolean,
  requestId: string,
): Promise<Job> {
  if (sameContent && (await needs.store.jobs.get(jobId)) === undefined) {
    throw new LonglineError(
      'not_found',
      `request_id '${requestId}' made job ${jobId}, which has ended and is no longer kept; use a new one to run it again`,
    );
  }
  if (sameContent) return await currentView(needs.store, jobId);
  throw new LonglineError(
    'already_exists',
    `request_id '${requestId}' was used for job ${jobId} with another content; use a new one`,
  );
}

/** Stores a job for delivery and gives it as stored; a repeated request id gives the first job again. */
export async function submitJob(
  needs: ServiceDependencies,
  raw: JobRequest | undefined,
  context: SubmissionContext,
): Promise<Job> {
  const { store, bus, clock, tracer = noTracer } = needs;
  const nowMs = clock.now();
  const request = checkRequest(raw, nowMs);
  const known = await store.jobs.findRequest(request.requestId);
  if (known !== undefined) {
    return await repeated(needs, known.jobId, Buffer.compare(known.hash, request.hash) === 0, request.requestId);
  }
  const agentIds = await chooseAgents(needs, request);
  checkCovered(agentIds, await coveredIds(store, request));
  const submission: JobSubmission = {
    job: {
      id: newId(nowMs),
      spec: toBinary(JobSpecSchema, request.spec),
      target: toBinary(JobTargetSchema, request.target),
      createdAtMs: nowMs,
      expiresAtMs: request.expiresAtMs,
      creator: context.creator,
      requestId: request.requestId,
      labels: request.labels,
    },
    requestHash: request.hash,
    ...prepare(needs, request, agentIds, nowMs),
    ...traceOf(context),
  };
  const wake = () => {
    for (const { agentId } of submission.commands) bus.publish(agentTopic(agentId), { kind: 'commands' });
  };
  const attributes = { [ATTRIBUTE.jobId]: submission.job.id };
  const storing = traced(tracer, SPAN.store, { attributes }, () => store.jobs.submit(submission));
  // A claim that is queued right behind shares its commit; one that comes too early finds nothing and is woken below.
  if (submission.commands.length <= WOKEN_AHEAD) wake();
  const outcome = await storing;
  if (outcome.kind === 'refused') throw agentRefusal(outcome);
  if (outcome.kind === 'repeated') return await repeated(needs, outcome.jobId, outcome.sameContent, request.requestId);
  wake();
  // What was claimed leaves this process first; the caller's own view of it comes after that.
  await nextTurn();
  return await currentView(store, submission.job.id);
}

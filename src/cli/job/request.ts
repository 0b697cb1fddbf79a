// From options to the request that is sent: who signs, where it goes, how long it is good for.
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import type { Command } from 'commander';
import { type JobRequest, JobRequestSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import { type JobTarget, JobTargetSchema } from '#gen/longline/v1/job_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import { durationValue, pairValue } from '../option-values.ts';
import { readSignedJob, readSigningKey, signJob } from './signing.ts';
import { type SpecOptions, specOf, targetOf } from './spec-options.ts';

/** Options of a submission beside those of the job. */
export interface RequestOptions extends SpecOptions {
  readonly requestId?: string;
  readonly ttl?: number;
  readonly label?: Record<string, string>;
  readonly signKey?: string;
  readonly controllerId?: string;
  readonly signed?: string;
}

/** How long a job signed here is good for unless told otherwise. */
export const DEFAULT_SIGNED_TTL_MS = 3_600_000;

/** Adds the options that say how a job is submitted. */
export function addRequestOptions(command: Command): Command {
  return command
    .optionsGroup('Submission:')
    .option('--request-id <id>', 'idempotency key: the same key gives the same job again')
    .option('--ttl <duration>', 'not started after this, counted from now (default 1h)', durationValue)
    .option('--label <key=value>', 'label for listing; repeatable', pairValue)
    .option('--sign-key <path>', 'sign with this private key instead of leaving it to the controller')
    .option('--controller-id <id>', "controller in whose name it is signed; the context's if left out")
    .option('--signed <path>', 'submit a job that was signed elsewhere with `longline job sign`');
}

/** The request. `contextControllerId` is what to sign for if no option says. */
export async function requestOf(
  options: RequestOptions,
  argv: readonly string[],
  contextControllerId: string,
): Promise<JobRequest> {
  const shared = { requestId: options.requestId ?? newId(), labels: options.label ?? {} };
  if (options.signed !== undefined) {
    refuseBesideSigned(options, argv);
    const { signed, statement } = await readSignedJob(options.signed);
    const ids = statement.audience?.agentIds ?? [];
    const target = hasTarget(options) ? targetOf(options) : targetOfAudience(ids, options.signed);
    return create(JobRequestSchema, { ...shared, target, signed });
  }
  const target = targetOf(options);
  const spec = await specOf(options, argv);
  if (options.signKey === undefined) {
    const ttl = options.ttl === undefined ? {} : { ttl: durationFromMs(options.ttl) };
    return create(JobRequestSchema, { ...shared, target, spec, ...ttl });
  }
  const facts = {
    controllerId: controllerIdOf(options, contextControllerId),
    target,
    ttlMs: options.ttl ?? DEFAULT_SIGNED_TTL_MS,
  };
  const signed = signJob(spec, facts, await readSigningKey(options.signKey), Date.now());
  return create(JobRequestSchema, { ...shared, target, signed });
}

/** The controller a job is signed for. Throws `invalid` if neither option nor context names one. */
export function controllerIdOf(options: RequestOptions, contextControllerId: string): string {
  const id = options.controllerId ?? contextControllerId;
  if (id !== '') return id;
  throw new LonglineError('invalid', '--controller-id is needed: the context names no controller to sign for');
}

function hasTarget({ agent, any, all }: RequestOptions): boolean {
  return agent !== undefined || any !== undefined || all !== undefined;
}

function targetOfAudience(agentIds: readonly string[], path: string): JobTarget {
  if (agentIds.length === 1) return create(JobTargetSchema, { target: { case: 'agentId', value: agentIds[0]! } });
  const message = `--signed: the job in ${path} is not signed for one agent; say where it runs with --agent, --any or --all`;
  throw new LonglineError('invalid', message);
}

function refuseBesideSigned(options: RequestOptions, argv: readonly string[]): void {
  const allowed = new Set([
    'signed',
    'agent',
    'any',
    'all',
    'label',
    'requestId',
    'detach',
    'output',
    'json',
    'color',
    'context',
  ]);
  const extra = Object.entries(options).filter(([name, value]) => !allowed.has(name) && value !== undefined);
  if (extra.length === 0 && argv.length === 0) return;
  const what = extra.length > 0 ? `option ${extra[0]![0]}` : `command ${argv[0]}`;
  throw new LonglineError(
    'invalid',
    `--signed: a signed job can't be changed, but ${what} was given; sign it anew instead`,
  );
}

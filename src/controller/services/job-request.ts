// A request for a job, checked and brought into the form it is stored in. All mistakes are told at once. Pure but for the
// hashing: which agents are there is placement's business.
import { durationMs } from '@bufbuild/protobuf/wkt';
import { type JobRequest, JobRequestSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import type { Selector } from '#gen/longline/v1/agent_pb.js';
import type { JobSpec, JobTarget } from '#gen/longline/v1/job_pb.js';
import type { SignedPayload } from '#gen/longline/v1/signature_pb.js';
import { type FieldViolation, invalid } from '../../core/errors.ts';
import { AGENT_ID } from '../../core/ids.ts';
import type { AgentSelector } from '../store/agent.ts';
import { contentHash } from './content-hash.ts';
import { readForeign } from './foreign-statement.ts';
import { specViolations } from './job-spec-shape.ts';
import { labelViolations, selectorOf, selectorViolations } from './selector.ts';

const DEFAULT_TTL_MS = 3_600_000;
const MAX_TTL_MS = 30 * 86_400_000;
const MAX_REQUEST_ID = 128;

/** A statement that was signed elsewhere. */
export interface ForeignStatement {
  /** To be sent as it is. */
  readonly signed: SignedPayload;
  readonly audience: AgentSelector;
}

/** A request that is sound. */
export interface CheckedRequest {
  readonly target: JobTarget & { target: { case: NonNullable<JobTarget['target']['case']> } };
  readonly spec: JobSpec;
  readonly foreign: ForeignStatement | undefined;
  readonly requestId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly expiresAtMs: number;
  /** SHA-256 over the content, in whatever order maps came; empty without a request id, which is all it is for. */
  readonly hash: Uint8Array;
}

function targetViolations(target: JobTarget | undefined): readonly FieldViolation[] {
  const field = 'job.target';
  const chosen = target?.target;
  switch (chosen?.case) {
    case 'agentId':
      return AGENT_ID.test(chosen.value)
        ? []
        : [
            {
              field: `${field}.agent_id`,
              description: `'${chosen.value.slice(0, 140)}' must be 1 to 128 characters of [A-Za-z0-9._-]`,
            },
          ];
    case 'anyOf':
      return selectorViolations(chosen.value, `${field}.any_of`);
    case 'allOf':
      return selectorViolations(chosen.value, `${field}.all_of`);
    default:
      return [{ field, description: 'is missing; give agent_id, any_of or all_of' }];
  }
}

interface SignedParts {
  readonly violations: readonly FieldViolation[];
  readonly spec: JobSpec | undefined;
  readonly audience: Selector | undefined;
  readonly expiresAtMs: number;
}

function signedParts(signed: SignedPayload, nowMs: number): SignedParts {
  const path = 'job.signed.payload';
  const statement = readForeign(signed, 'job.signed', nowMs);
  if (statement.action === undefined) {
    return { violations: statement.violations, spec: undefined, audience: undefined, expiresAtMs: 0 };
  }
  const { action, audience, expiresAtMs } = statement;
  const violations = [...statement.violations];
  const job = action.action.case === 'job' ? action.action.value.action : undefined;
  const spec = job?.case === 'run' ? job.value : undefined;
  if (spec === undefined) violations.push({ field: `${path}.action`, description: 'must be to run a job' });
  else violations.push(...specViolations(spec, `${path}.action.job.run`));
  return { violations, spec, audience, expiresAtMs };
}

/** Checks a request. Throws `invalid` with everything that is wrong with it. */
export function checkRequest(request: JobRequest | undefined, nowMs: number): CheckedRequest {
  if (request === undefined) throw invalid([{ field: 'job', description: 'is missing' }]);
  const { spec, signed, requestId, ttl, labels, target } = request;
  const violations = [...targetViolations(target), ...labelViolations(labels, 'job.labels')];
  if (requestId.length > MAX_REQUEST_ID) {
    violations.push({
      field: 'job.request_id',
      description: `has ${requestId.length} characters; at most ${MAX_REQUEST_ID} are allowed`,
    });
  }
  const ttlMs = ttl === undefined ? DEFAULT_TTL_MS : durationMs(ttl);
  if (!(ttlMs > 0 && ttlMs <= MAX_TTL_MS))
    violations.push({ field: 'job.ttl', description: `is ${ttlMs} ms; must be 1 ms to 30 days` });
  if (spec !== undefined && signed !== undefined) {
    violations.push({
      field: 'job.spec',
      description: 'is given together with signed; exactly one of the two must be',
    });
  }
  const parts = signed === undefined ? undefined : signedParts(signed, nowMs);
  const effective = parts === undefined ? spec : parts.spec;
  if (parts !== undefined) violations.push(...parts.violations);
  else if (spec === undefined) violations.push({ field: 'job.spec', description: 'is missing, and so is signed' });
  else violations.push(...specViolations(spec, 'job.spec'));
  if (violations.length > 0 || effective === undefined || target === undefined) throw invalid(violations);
  return {
    target: target as CheckedRequest['target'],
    spec: effective,
    foreign: signed === undefined ? undefined : { signed, audience: selectorOf(parts?.audience) },
    requestId,
    labels,
    expiresAtMs: parts === undefined ? nowMs + ttlMs : parts.expiresAtMs,
    hash: requestId === '' ? new Uint8Array() : contentHash(JobRequestSchema, request),
  };
}

// Would a job run on a host, and if not, why: every rule, for `longline policy explain` and the agent's local API. Runs
// nothing and changes nothing.
import type { JobSpec as JobSpecMessage } from '#gen/longline/v1/job_pb.js';
import type { JobsConfig } from '../../capabilities/jobs/config.ts';
import { type JobSpec, parseJobSpec } from '../../capabilities/jobs/spec.ts';
import type { AgentNameplate } from '../../core/agent-selector.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Decision, PolicyRequest } from '../../core/policy/policy.ts';
import { entryRefusal } from '../trust/entry-check.ts';
import type { TrustEntry } from '../trust/trust-file.ts';
import { effectiveJobSpec, sandboxRequestOf } from './job-request.ts';

/** The host that is asked. */
export interface ExplainingHost {
  readonly jobs: JobsConfig;
  readonly nameplate: AgentNameplate;
  readonly nowMs: number;
  /** Undefined where there is no trust to look at: then a key is taken as trusted. */
  readonly findKey: ((keyId: string) => TrustEntry | undefined) | undefined;
  evaluate(request: PolicyRequest): readonly Decision[];
}

/** The job, and who would sign and send it. */
export interface JobQuestion {
  readonly spec: JobSpecMessage;
  /** Undefined for an unsigned one. */
  readonly keyId: string | undefined;
  readonly controllerId: string;
}

/** The answer. */
export interface JobExplanation {
  readonly allowed: boolean;
  /** Every rule looked at, in order. */
  readonly decisions: readonly Decision[];
  /** With all defaults filled in; undefined if the job isn't valid. */
  readonly effective: JobSpecMessage | undefined;
}

/** Asks trust, form and policy, in the order in which a real job meets them. */
export function explainJob(host: ExplainingHost, question: JobQuestion): JobExplanation {
  const { spec: message, keyId, controllerId } = question;
  const decisions: Decision[] = [];
  if (keyId !== undefined && host.findKey !== undefined) {
    const use = { controllerId, capability: 'jobs', requiredScopes: message.requiredScopes };
    decisions.push(trustDecision(host, keyId, use));
  }
  const parsed = parse(message, host.jobs);
  if ('faults' in parsed) decisions.push(...parsed.faults);
  const job = 'spec' in parsed ? sandboxRequestOf(parsed.spec) : undefined;
  decisions.push(...host.evaluate({ capability: 'jobs', controllerId, keyId, job }));
  return {
    allowed: decisions.every((decision) => decision.allowed),
    decisions,
    effective: 'spec' in parsed ? effectiveJobSpec(parsed.spec, message) : undefined,
  };
}

/** What the trust file says of a key and its use. */
export function trustDecision(
  host: Pick<ExplainingHost, 'findKey' | 'nameplate' | 'nowMs'>,
  keyId: string,
  use: Parameters<typeof entryRefusal>[1],
): Decision {
  const entry = host.findKey?.(keyId);
  if (entry === undefined) return { rule: 'trust', allowed: false, explanation: `key ${keyId} is not trusted here` };
  const refusal = entryRefusal(entry, use, host.nameplate, host.nowMs);
  if (refusal === undefined) {
    return { rule: `trust.${keyId}`, allowed: true, explanation: `key ${keyId} is trusted by ${entry.source}` };
  }
  return { rule: refusal.rule ?? 'trust', allowed: false, explanation: refusal.message };
}

function parse(message: JobSpecMessage, jobs: JobsConfig): { spec: JobSpec } | { faults: readonly Decision[] } {
  try {
    return { spec: parseJobSpec(message, jobs) };
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    const faults = error.violations.map(({ field, description }) => ({
      rule: 'job_spec',
      allowed: false,
      explanation: `${field}: ${description}`,
    }));
    return { faults: faults.length > 0 ? faults : [{ rule: 'job_spec', allowed: false, explanation: error.message }] };
  }
}

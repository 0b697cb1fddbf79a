// Would this job run here, and if not, which rule forbids it: the same checks as at admission, in words, without effect.
import { create } from '@bufbuild/protobuf';
import type { ExplainJobRequest, ExplainJobResponse } from '#gen/longline/local/v1/local_pb.js';
import { JobSpecSchema } from '#gen/longline/v1/job_pb.js';
import type { JobsConfig } from '../capabilities/jobs/config.ts';
import { parseJobSpec } from '../capabilities/jobs/spec.ts';
import { LonglineError } from '../core/errors.ts';
import { effectiveJobSpec, sandboxRequestOf } from './policy/job-request.ts';
import type { PolicyStore } from './policy/policy-store.ts';
import type { TrustStore } from './trust/trust-store.ts';

type Explanation = Partial<Omit<ExplainJobResponse, '$typeName' | '$unknown'>>;
type Decision = { readonly rule: string; readonly allowed: boolean; readonly explanation: string };

/** What an explanation is made from. */
export interface ExplanationParts {
  readonly trust: TrustStore;
  readonly policy: PolicyStore;
  readonly jobs: JobsConfig;
}

/** Every rule looked at, in order: the job's form, the key, the policy. */
export function explainJob({ trust, policy, jobs }: ExplanationParts, request: ExplainJobRequest): Explanation {
  const asked = request.spec ?? create(JobSpecSchema);
  const decisions: Decision[] = [];
  const { keyId, controllerId } = request;
  if (keyId !== '') decisions.push(keyDecision(trust, keyId, controllerId));
  try {
    const spec = parseJobSpec(asked, jobs);
    const subject = { capability: 'jobs', controllerId, keyId: keyId === '' ? undefined : keyId } as const;
    decisions.push(...policy.evaluate({ ...subject, job: sandboxRequestOf(spec) }));
    return answer(decisions, { effective: effectiveJobSpec(spec, asked) });
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    const parts = error.violations.length > 0 ? error.violations : [{ field: 'spec', description: error.message }];
    for (const { field, description } of parts)
      decisions.push({ rule: field, allowed: false, explanation: description });
    return answer(decisions, {});
  }
}

function answer(decisions: readonly Decision[], rest: Explanation): Explanation {
  return {
    ...rest,
    allowed: decisions.every((decision) => decision.allowed),
    decisions: decisions.map((decision) => ({ $typeName: 'longline.local.v1.PolicyDecision' as const, ...decision })),
  };
}

function keyDecision(trust: TrustStore, keyId: string, controllerId: string): Decision {
  const entry = trust.find(keyId);
  const rule = `trust.${keyId}`;
  if (entry === undefined) return { rule, allowed: false, explanation: `no trust file names key ${keyId}` };
  const speaks = controllerId === '' || entry.controllers.includes(controllerId);
  return speaks
    ? { rule, allowed: true, explanation: `the key is trusted for ${entry.controllers.join(', ')}` }
    : {
        rule,
        allowed: false,
        explanation: `the key speaks for ${entry.controllers.join(', ')}, not for ${controllerId}`,
      };
}

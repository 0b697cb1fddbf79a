// Would a session be started on a host, and if not, why: every rule, for the agent's local API. Starts nothing.
import { clone } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  SessionNetworkMode,
  type SessionSpec as SessionSpecMessage,
  SessionSpecSchema,
} from '#gen/longline/v1/session_pb.js';
import type { SessionsConfig } from '../../capabilities/sessions/config.ts';
import type { SessionSpec } from '../../capabilities/sessions/session-spec.ts';
import { parseSessionSpec } from '../../capabilities/sessions/spec.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Decision } from '../../core/policy/policy.ts';
import { type ExplainingHost, trustDecision } from './job-explanation.ts';
import { sessionRequestOf } from './session-request.ts';

/** The session, and who would sign and send it. */
export interface SessionQuestion {
  readonly spec: SessionSpecMessage;
  /** Undefined for an unsigned one. */
  readonly keyId: string | undefined;
  readonly controllerId: string;
}

/** The answer. */
export interface SessionExplanation {
  readonly allowed: boolean;
  /** Every rule looked at, in order. */
  readonly decisions: readonly Decision[];
  /** With all defaults filled in; undefined if the session isn't valid. */
  readonly effective: SessionSpecMessage | undefined;
}

/** Asks trust, form and policy, in the order in which a real session meets them. */
export function explainSession(
  host: Omit<ExplainingHost, 'jobs'> & { readonly sessions: SessionsConfig },
  { spec: message, keyId, controllerId }: SessionQuestion,
): SessionExplanation {
  const decisions: Decision[] = [];
  if (keyId !== undefined && host.findKey !== undefined) {
    decisions.push(trustDecision(host, keyId, { controllerId, capability: 'sessions', requiredScopes: [] }));
  }
  const parsed = parse(message, host.sessions);
  if ('faults' in parsed) decisions.push(...parsed.faults);
  const session = 'spec' in parsed ? sessionRequestOf(parsed.spec, host.sessions) : undefined;
  decisions.push(...host.evaluate({ capability: 'sessions', controllerId, keyId, job: undefined, session }));
  return {
    allowed: decisions.every((decision) => decision.allowed),
    decisions,
    effective: 'spec' in parsed ? effectiveSpec(parsed.spec, message) : undefined,
  };
}

function parse(
  message: SessionSpecMessage,
  sessions: SessionsConfig,
): { readonly spec: SessionSpec } | { readonly faults: readonly Decision[] } {
  try {
    return { spec: parseSessionSpec(message, sessions) };
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    const faults = error.violations.map(({ field, description }) => ({
      rule: 'session_spec',
      allowed: false,
      explanation: `${field}: ${description}`,
    }));
    return {
      faults: faults.length > 0 ? faults : [{ rule: 'session_spec', allowed: false, explanation: error.message }],
    };
  }
}

/** The session as it would be, as far as defaults of the host go into it. Passwords are left out. */
function effectiveSpec(spec: SessionSpec, asked: SessionSpecMessage): SessionSpecMessage {
  const effective = clone(SessionSpecSchema, asked);
  if (effective.vnc !== undefined) {
    effective.vnc.passwordSet = effective.vnc.password !== '';
    effective.vnc.password = '';
  }
  effective.image = spec.image;
  effective.resources = {
    $typeName: 'longline.v1.SessionResources',
    cpus: spec.cpus,
    memoryBytes: BigInt(spec.memoryBytes),
    pids: spec.pids,
    shmBytes: BigInt(spec.shmBytes),
  };
  for (const [index, volume] of effective.volumes.entries()) volume.driver = spec.volumes[index]?.driver ?? '';
  effective.network ??= {
    $typeName: 'longline.v1.SessionNetwork',
    mode: SessionNetworkMode.ISOLATED,
    name: '',
    internal: false,
    hostname: '',
  };
  effective.stopGrace = durationFromMs(spec.stopGraceMs);
  effective.startTimeout = durationFromMs(spec.startTimeoutMs);
  return effective;
}

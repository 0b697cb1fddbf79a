// What verification and policy look at in a statement, as plain values.
import { create, type DescMessage, toBinary } from '@bufbuild/protobuf';
import type { Selector } from '#gen/longline/v1/agent_pb.js';
import type { JobSpec } from '#gen/longline/v1/job_pb.js';
import { NetworkActionSchema } from '#gen/longline/v1/network_pb.js';
import { ProgramActionSchema } from '#gen/longline/v1/program_pb.js';
import { SessionActionSchema, type SessionSpec } from '#gen/longline/v1/session_pb.js';
import { JobActionSchema, type Statement } from '#gen/longline/v1/signature_pb.js';
import { WorkloadActionSchema } from '#gen/longline/v1/workload_pb.js';
import type { AgentSelector } from '../../core/agent-selector.ts';
import { LonglineError } from '../../core/errors.ts';

type ActionSlot = NonNullable<NonNullable<Statement['action']>['action']['case']>;

const CAPABILITY_OF: Readonly<Record<ActionSlot, { readonly name: string; readonly schema: DescMessage }>> = {
  job: { name: 'jobs', schema: JobActionSchema },
  session: { name: 'sessions', schema: SessionActionSchema },
  network: { name: 'network', schema: NetworkActionSchema },
  program: { name: 'programs', schema: ProgramActionSchema },
  workload: { name: 'workloads', schema: WorkloadActionSchema },
};

/** The capability that a statement is for. Throws `unsupported` for one that this version doesn't know. */
export function capabilityOf(statement: Statement): string {
  const slot = statement.action?.action.case;
  if (slot !== undefined) return CAPABILITY_OF[slot].name;
  throw new LonglineError('unsupported', 'the statement holds no action that this agent knows', {
    rule: 'statement.action',
  });
}

/** The serialised action message of the statement's capability. */
export function serializedAction(statement: Statement): Uint8Array {
  const action = statement.action?.action;
  if (action?.case === undefined) throw new LonglineError('unsupported', 'the statement holds no action');
  const { schema } = CAPABILITY_OF[action.case];
  return toBinary(schema, create(schema, action.value));
}

/** The job that a statement asks to run; undefined if it asks for something else. */
export function jobOf(statement: Statement): JobSpec | undefined {
  const action = statement.action?.action;
  return action?.case === 'job' && action.value.action.case === 'run' ? action.value.action.value : undefined;
}

/** The session that a statement asks to start; undefined if it asks for something else. */
export function sessionOf(statement: Statement): SessionSpec | undefined {
  const action = statement.action?.action;
  return action?.case === 'session' && action.value.action.case === 'start'
    ? action.value.action.value.spec
    : undefined;
}

/** What a statement permits: one body as one generation. */
export interface StatePermit {
  readonly generation: bigint;
  readonly baseGeneration: bigint;
  readonly bodySha256: Uint8Array;
}

/** The desired state that a statement permits; undefined if it asks for something to be done. */
export function permitOf(statement: Statement): StatePermit | undefined {
  const action = statement.action?.action;
  if (action?.case !== 'network' && action?.case !== 'program') return undefined;
  const { action: asked } = action.value;
  return asked.case === 'permit' ? asked.value : undefined;
}

/** Scopes that the signing key must hold. */
export function requiredScopes(statement: Statement): readonly string[] {
  return jobOf(statement)?.requiredScopes ?? [];
}

/** A selector from the wire as a plain value. */
export function selectorOf(selector: Selector): AgentSelector {
  return { matchLabels: selector.matchLabels, hasLabels: selector.hasLabels, agentIds: selector.agentIds };
}

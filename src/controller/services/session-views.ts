// Records of sessions and templates as the API shows them: without passwords. Pure.
import { clone, create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { JobState } from '#gen/longline/v1/job_pb.js';
import {
  type Session,
  type SessionOperation,
  SessionOperationSchema,
  SessionOperationState,
  SessionProgressSchema,
  SessionResultSchema,
  SessionSchema,
  type SessionSpec,
  SessionSpecSchema,
  type SessionStatus,
  SessionStatusSchema,
  type SessionTemplate,
  SessionTemplateSchema,
} from '#gen/longline/v1/session_pb.js';
import type { AgentRecord } from '../store/agent.ts';
import type { CommandRecord } from '../store/command.ts';
import type { SessionRecord } from '../store/session.ts';
import { hasEnded } from '../store/session-state.ts';
import type { TemplateRecord } from '../store/session-template.ts';

const OPERATION_STATES: Readonly<Record<JobState, SessionOperationState>> = {
  [JobState.UNSPECIFIED]: SessionOperationState.UNSPECIFIED,
  [JobState.PENDING]: SessionOperationState.PENDING,
  [JobState.QUEUED]: SessionOperationState.ACTIVE,
  [JobState.PREPARING]: SessionOperationState.ACTIVE,
  [JobState.RUNNING]: SessionOperationState.ACTIVE,
  [JobState.STOPPING]: SessionOperationState.ACTIVE,
  [JobState.SUCCEEDED]: SessionOperationState.SUCCEEDED,
  [JobState.FAILED]: SessionOperationState.FAILED,
  [JobState.TIMED_OUT]: SessionOperationState.FAILED,
  [JobState.CANCELLED]: SessionOperationState.CANCELLED,
  [JobState.REJECTED]: SessionOperationState.REJECTED,
  [JobState.INDETERMINATE]: SessionOperationState.INDETERMINATE,
};

/** A spec as it may be shown: says that there is a password, not which. */
export function withoutSecrets(spec: SessionSpec): SessionSpec {
  if (spec.vnc === undefined) return spec;
  const shown = clone(SessionSpecSchema, spec);
  shown.vnc!.passwordSet = spec.vnc.password !== '' || spec.vnc.passwordSet;
  shown.vnc!.password = '';
  return shown;
}

/** An action. */
export function operationView(command: CommandRecord): SessionOperation {
  const view = create(SessionOperationSchema, {
    id: command.id,
    verb: command.verb,
    state: OPERATION_STATES[command.jobState],
    createTime: timestampFromMs(command.createdAtMs),
    creator: command.creator,
  });
  if (command.progress !== undefined) view.progress = fromBinary(SessionProgressSchema, command.progress);
  if (command.endedAtMs !== undefined) view.endTime = timestampFromMs(command.endedAtMs);
  if (command.result === undefined) return view;
  const { error, unchanged } = fromBinary(SessionResultSchema, command.result);
  if (error !== undefined) view.error = error;
  view.unchanged = unchanged;
  return view;
}

/** True once an action is over. */
export function isOver(operation: SessionOperation | undefined): boolean {
  return operation === undefined || operation.state >= SessionOperationState.SUCCEEDED;
}

function statusOf(session: SessionRecord): SessionStatus {
  if (session.status !== undefined) return fromBinary(SessionStatusSchema, session.status);
  return create(SessionStatusSchema, {
    sessionId: session.id,
    generation: BigInt(session.generation),
    state: session.state,
    specHash: session.specHash,
    createTime: timestampFromMs(session.createdAtMs),
    changeTime: timestampFromMs(session.createdAtMs),
  });
}

/** What a session is shown with. */
export interface SessionContext {
  /** Its latest command; undefined if this controller gave none. */
  readonly operation: CommandRecord | undefined;
  /** Its agent; undefined if that was deleted. */
  readonly agent: Pick<AgentRecord, 'connectionId' | 'seenAtMs'> | undefined;
}

/** A session. */
export function sessionView(session: SessionRecord, { operation, agent }: SessionContext): Session {
  const view = create(SessionSchema, {
    id: session.id,
    generation: BigInt(session.generation),
    spec: fromBinary(SessionSpecSchema, session.spec),
    specHash: session.specHash,
    template: session.template,
    templateVersion: session.templateVersion,
    agentId: session.agentId,
    status: statusOf(session),
    createTime: timestampFromMs(session.createdAtMs),
    updateTime: timestampFromMs(session.updatedAtMs),
    creator: session.creator,
    requestId: session.requestId,
    revision: BigInt(session.revision),
  });
  if (operation !== undefined) view.operation = operationView(operation);
  if (agent !== undefined && agent.connectionId === '' && !hasEnded(session.state)) {
    view.unknownSince = timestampFromMs(agent.seenAtMs ?? session.createdAtMs);
  }
  return view;
}

/** A template. */
export function templateView(template: TemplateRecord): SessionTemplate {
  return create(SessionTemplateSchema, {
    name: template.name,
    version: template.version,
    spec: withoutSecrets(fromBinary(SessionSpecSchema, template.spec)),
    description: template.description,
    createTime: timestampFromMs(template.createdAtMs),
    creator: template.creator,
  });
}

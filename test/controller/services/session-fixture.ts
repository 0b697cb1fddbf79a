// An agent's words about sessions, for tests of SessionService.
import { fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { type Command, DesiredStateKind, Outcome } from '#gen/longline/link/v1/link_pb.js';
import {
  type SessionAction,
  type SessionResultSchema,
  SessionState,
  type SessionStatusSchema,
} from '#gen/longline/v1/session_pb.js';
import { StatementSchema } from '#gen/longline/v1/signature_pb.js';
import type { ControlStream } from '../link/fleet-fixture.ts';

type StatusInit = MessageInitShape<typeof SessionStatusSchema>;

/** Facts of an agent that offers sessions. */
export function sessionsFacts(limits: Record<string, number> = {}, labels: Record<string, string> = {}) {
  return { labels, capabilities: [{ name: 'sessions', available: true, limits }] };
}

/** What a command is to do. */
export function actionOf(command: Command): SessionAction['action'] {
  const { action } = fromBinary(StatementSchema, command.statement!.payload);
  if (action?.action.case !== 'session') throw new Error('this is no command of a session');
  return action.action.value.action;
}

/** A status that runs, unless told otherwise. */
export function statusOf(sessionId: string, revision: number, init: StatusInit = {}): StatusInit {
  return { sessionId, generation: 1n, revision: BigInt(revision), state: SessionState.RUNNING, ...init };
}

/** Sends a state report. */
export function report(
  control: ControlStream,
  sessions: readonly StatusInit[],
  full = false,
  digest?: Uint8Array,
): void {
  const detail = { case: 'sessions' as const, value: { sessions: [...sessions], full } };
  const value = { kind: DesiredStateKind.SESSIONS, detail, ...(digest === undefined ? {} : { digest }) };
  control.send({ case: 'stateReport', value });
}

/** Ends a command of a session. */
export function finish(
  control: ControlStream,
  command: Command,
  result: MessageInitShape<typeof SessionResultSchema>,
  outcome: Outcome = Outcome.SUCCEEDED,
): void {
  const { id: commandId, seq } = command;
  const detail = { case: 'session' as const, value: result };
  control.send({ case: 'result', value: { commandId, seq, outcome, detail } });
}

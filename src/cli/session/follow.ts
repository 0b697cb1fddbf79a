// Following an action on a session to its end, over as many connections as it takes, with a line that says how far it is.
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import {
  type Session,
  type SessionOperation,
  SessionOperationState,
  type SessionProgress,
  SessionStep,
  SessionStepState,
} from '#gen/longline/v1/session_pb.js';
import { LonglineError, type Reason } from '../../core/errors.ts';
import { EXIT, exitCodeOf } from '../exit-code.ts';
import type { Fleet } from '../fleet-connection.ts';
import type { CliIo } from '../io.ts';
import { ProgressLine, pullText } from '../job/progress-line.ts';
import { ReconnectBudget } from '../job/reconnect-budget.ts';
import { messageOf } from '../job/tail.ts';
import { verbName } from './views.ts';

const DOING: Readonly<Partial<Record<SessionStep, string>>> = {
  [SessionStep.ADMIT]: 'reserving room',
  [SessionStep.NETWORK]: 'making the network',
  [SessionStep.VOLUME]: 'making the volume',
  [SessionStep.PULL]: 'fetching the image',
  [SessionStep.CREATE]: 'making the container',
  [SessionStep.START]: 'starting the container',
  [SessionStep.RUNNING]: 'waiting until it runs',
  [SessionStep.HEALTHY]: 'waiting until it is healthy',
  [SessionStep.TUNNEL_READY]: 'waiting for its ports',
  [SessionStep.PAUSE]: 'pausing',
  [SessionStep.CHECKPOINT]: 'writing its memory to disk',
  [SessionStep.STOP]: 'stopping the container',
  [SessionStep.REMOVE_CONTAINER]: 'removing the container',
  [SessionStep.REMOVE_NETWORK]: 'removing the network',
  [SessionStep.REMOVE_VOLUME]: 'removing the volume',
};

function isOver(operation: SessionOperation | undefined): boolean {
  return operation === undefined || operation.state >= SessionOperationState.SUCCEEDED;
}

/** What a step is about, in words. */
export function stepText(progress: SessionProgress): string {
  const { step, state, subject, pull, error, message } = progress;
  if (step === SessionStep.PULL && state === SessionStepState.BEGUN && pull !== undefined) return pullText(pull);
  const doing = DOING[step] ?? 'working';
  const what = subject === '' ? doing : `${doing} ${subject}`;
  if (state === SessionStepState.FAILED) return `${what} failed: ${error?.message ?? message}`;
  if (state === SessionStepState.UNDONE) return `undoing: ${what}`;
  return message === '' ? what : `${what}: ${message}`;
}

function waitingText(session: Session): string {
  const { operation, agentId, unknownSince } = session;
  if (operation === undefined || operation.state === SessionOperationState.PENDING) {
    return unknownSince === undefined ? `waiting for ${agentId}` : `waiting for ${agentId}, which is away`;
  }
  return `${agentId}: ${operation.progress === undefined ? 'begun' : stepText(operation.progress)}`;
}

/** Follows the action that `first` was given, to its end. `leave` ends the following only; the action goes on. */
export async function followAction(io: CliIo, fleet: Fleet, first: Session, leave: AbortSignal): Promise<Session> {
  const line = new ProgressLine(io);
  const budget = new ReconnectBudget();
  budget.progress();
  const wanted = first.operation?.id;
  let session = first;
  try {
    while (!isOver(session.operation) && session.operation?.id === wanted) {
      try {
        await line.show(waitingText(session));
        await fleet.bringUp();
        const watch = fleet.streams.sessions.watchSessions({ filter: { sessionIds: [first.id] } }, { signal: leave });
        for await (const { change } of watch) {
          budget.progress();
          if (change.case !== 'session') continue;
          session = change.value;
          if (isOver(session.operation) || session.operation?.id !== wanted) break;
          await line.show(waitingText(session));
        }
      } catch (error) {
        if (leave.aborted) throw new LonglineError('cancelled', `left; the ${verbOf(first)} goes on`);
        await budget.wait(error, (thrown) => fleet.toError(thrown), leave);
        await line.show(`connection lost (${messageOf(fleet.toError(error))}); trying again`, true);
      }
    }
  } finally {
    await line.clear();
  }
  return session;
}

function verbOf({ operation }: Session): string {
  return verbName(operation?.verb ?? 0) || 'action';
}

/** Sets the exit code by how an action ended, and says so if it didn't end well. */
export async function concludeAction(io: CliIo, first: Session, session: Session): Promise<void> {
  const { operation } = session;
  const verb = verbOf(first);
  if (operation?.id !== first.operation?.id) {
    io.exitCode = EXIT.failed;
    return await io.note(`[longline: the ${verb} of ${session.id} gave way to a ${verbName(operation?.verb ?? 0)}]`);
  }
  if (operation === undefined || operation.state <= SessionOperationState.SUCCEEDED) return;
  const error = operation.error ?? session.status?.error;
  io.exitCode = exitCodeOfAction(operation);
  const how = (SessionOperationState[operation.state] ?? '').toLowerCase();
  const lines = [
    `[longline: the ${verb} of ${session.id} on ${session.agentId} ${how}: ${error?.message ?? 'no reason was given'}]`,
  ];
  for (const { field, description } of error?.violations ?? []) lines.push(`  ${field}: ${description}`);
  if (error?.rule) lines.push(`  decided by: ${error.rule}`);
  await io.note(lines.join('\n'));
}

function exitCodeOfAction({ state, error }: SessionOperation): number {
  if (state === SessionOperationState.CANCELLED) return EXIT.interrupted;
  const reason = (ErrorReason[error?.reason ?? 0] ?? '').toLowerCase();
  const known = reason !== '' && reason !== 'unspecified';
  return known ? exitCodeOf(reason as Reason) : EXIT.failed;
}

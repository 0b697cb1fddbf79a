// Carries out the four commands on a session, each at most once: what is done already succeeds and changes nothing, what
// doesn't fit the present state is refused with that state.
import { LonglineError } from '../../core/errors.ts';
import { Preempted } from './interruptions.ts';
import * as lifecycle from './lifecycle.ts';
import type { Session, Tell } from './session.ts';
import { isOver } from './state.ts';
import type { SessionRequest } from './wire.ts';

/** How a command is carried out. */
export interface CommandOptions {
  readonly tell: Tell;
  /** True if an earlier process may have begun it. */
  readonly resumed: boolean;
  /** Aborts when the command is cancelled. */
  readonly signal: AbortSignal;
  /** Undefined if this engine makes checkpoints. */
  readonly checkpointMissing: string | undefined;
}

/** True if nothing had to be done. Throws why it could not be done. */
export type Unchanged = boolean;

/** Carries out a start on a session whose record is there. `fresh` if it was made for this command. */
export async function startSession(session: Session, fresh: boolean, options: CommandOptions): Promise<Unchanged> {
  const joined = !fresh && session.busy;
  return await session.enqueue(async (signal) => {
    const { state, record } = session;
    if (state.kind === 'failed' && (joined || options.resumed)) throw failureOf(session);
    if (state.kind === 'asleep') return true;
    if (!fresh && !isOver(state) && state.kind !== 'starting') return true;
    if (state.kind === 'ended') throw session.wrongState('a start of this generation', 'new; give a higher generation');
    if (!fresh && isOver(state)) {
      session.admit();
      await session.change({ starts: record.starts, endedAtMs: undefined, restarts: 0 });
    }
    const stop = follow(session, options.signal);
    try {
      await lifecycle.start(session, {
        ...{ cause: 'requested', reason: '', tell: options.tell, signal },
        resumed: options.resumed,
      });
      return false;
    } finally {
      stop();
    }
  });
}

/** Ends a session; pre-empts what is under way. */
export async function stopSession(
  session: Session,
  request: Extract<SessionRequest, { kind: 'stop' }>,
  options: CommandOptions,
): Promise<Unchanged> {
  const kind = session.state.kind;
  if (kind === 'starting' || kind === 'waking' || kind === 'restarting') {
    session.preempt(new Preempted(session.sessionId));
  }
  return await session.enqueue(async (signal) => {
    const volumesGone = session.record.goal.kind === 'gone' && session.record.goal.removeVolumes;
    if (isOver(session.state) && (volumesGone || !request.removeVolumes)) return true;
    session.stopGraceMs = request.graceMs ?? session.spec.stopGraceMs;
    const occasion = { cause: 'requested', reason: request.reason, tell: options.tell, signal } as const;
    await lifecycle.remove(session, request.removeVolumes, occasion);
    return false;
  });
}

/** Puts a session to sleep. What is being started or woken is refused. */
export async function hibernateSession(
  session: Session,
  request: Extract<SessionRequest, { kind: 'hibernate' }>,
  options: CommandOptions,
): Promise<Unchanged> {
  const { tier } = request;
  if (tier === 'checkpoint' && options.checkpointMissing !== undefined) {
    throw new LonglineError('unsupported', `tier CHECKPOINT is unavailable on this host: ${options.checkpointMissing}`);
  }
  const check = () => {
    const { kind } = session.state;
    if (kind === 'asleep' || kind === 'running' || kind === 'unhealthy' || kind === 'restarting') return;
    if (options.resumed && kind === 'hibernating') return;
    throw session.wrongState('hibernate', 'running');
  };
  if (!options.resumed) check();
  return await session.enqueue(async (signal) => {
    check();
    const { state } = session;
    if (state.kind === 'asleep' && lifecycle.sleepsEnough(state.tier, tier)) return true;
    if (state.kind === 'asleep' && tier === 'checkpoint') throw session.wrongState('a checkpoint', 'running');
    const occasion = { cause: 'requested', reason: request.reason, tell: options.tell, signal } as const;
    await lifecycle.hibernate(session, tier, occasion);
    return false;
  });
}

/** Wakes a session; one that runs is awake already. */
export async function wakeSession(
  session: Session,
  request: Extract<SessionRequest, { kind: 'wake' }>,
  options: CommandOptions,
): Promise<Unchanged> {
  return await session.enqueue(async (signal) => {
    const { kind } = session.state;
    if (kind === 'running' || kind === 'unhealthy') return true;
    const occasion = { cause: 'requested', reason: request.reason, tell: options.tell, signal } as const;
    if (kind === 'restarting') {
      await lifecycle.restart(session, occasion);
      return false;
    }
    if (kind !== 'asleep') throw session.wrongState('wake', 'asleep');
    const stop = follow(session, options.signal);
    try {
      await lifecycle.wake(session, { ...occasion, resumed: options.resumed });
      return false;
    } finally {
      stop();
    }
  });
}

/** A cancelled command ends what it is doing. */
function follow(session: Session, signal: AbortSignal): () => void {
  const onAbort = () => {
    const { reason } = signal;
    session.preempt(
      reason instanceof LonglineError ? reason : new LonglineError('cancelled', 'the command was cancelled'),
    );
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  return () => signal.removeEventListener('abort', onAbort);
}

function failureOf(session: Session): LonglineError {
  const { error, reason } = session.record;
  return new LonglineError(error?.reason ?? 'wrong_state', error?.message ?? reason);
}

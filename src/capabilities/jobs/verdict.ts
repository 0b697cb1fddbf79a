// From what was seen of a container to how its job ended. Pure.
import { constants } from 'node:os';
import { LonglineError } from '../../core/errors.ts';
import type { StopCause, Verdict } from './events.ts';

/** What was seen of a job's container. */
export interface Observation {
  /** Undefined if it isn't known. */
  readonly exitCode: number | undefined;
  /** Set if we sent it a signal to end before it ended. */
  readonly stoppedFor: StopCause | undefined;
  /** The engine reported a memory kill, as an event or on inspection. */
  readonly oomSeen: boolean;
  /** The engine went away while it ran and came back. */
  readonly engineWasLost: boolean;
  /** An agent's end closed its input before all of it was in its hands. */
  readonly inputCut: boolean;
}

/** Exit code of a process that was ended by SIGKILL. */
export const KILLED = 128 + constants.signals.SIGKILL;
const TERMINATED = 128 + constants.signals.SIGTERM;

/** How a container that is known to have ended ends its job. */
export function judge(seen: Observation): Verdict {
  const { exitCode } = seen;
  if (exitCode === undefined) {
    const message = 'the engine does not tell how the container ended';
    return unknown('interrupted', new LonglineError('unavailable', message), seen.oomSeen);
  }
  const shared = { exitCode, signal: signalOf(exitCode), oomKilled: seen.oomSeen };
  if (seen.stoppedFor !== undefined) return { ...STOPPED[seen.stoppedFor], ...shared };
  if (exitCode === KILLED && seen.oomSeen) return { ...shared, state: 'failed', reason: 'out_of_memory' };
  if (seen.engineWasLost && (exitCode === KILLED || exitCode === TERMINATED || exitCode === 255)) {
    const error = new LonglineError('unavailable', `the engine restarted and ended the job with exit code ${exitCode}`);
    return { ...shared, error, state: 'failed', reason: 'engine_lost' };
  }
  if (exitCode === KILLED) return { ...shared, state: 'failed', reason: 'signaled', error: killedByOthers() };
  if (exitCode !== 0) return { ...shared, state: 'failed', reason: shared.signal === '' ? 'exited' : 'signaled' };
  if (seen.inputCut) {
    const message =
      'standard input was cut by a restart of the agent, so exit code 0 does not prove that all of it was seen';
    return {
      ...shared,
      state: 'indeterminate',
      reason: 'interrupted',
      error: new LonglineError('unavailable', message),
    };
  }
  return { ...shared, state: 'succeeded', reason: 'exited' };
}

// Podman never tells, and Docker begins to listen only some milliseconds after the start.
function killedByOthers(): LonglineError {
  const message =
    'the main process was killed with SIGKILL, and not by this agent; most often that is the kernel, for memory, although ' +
    'the engine did not report it';
  return new LonglineError('limit', message, { retryable: false });
}

/** An outcome that can't be known. */
export function unknown(reason: 'interrupted' | 'engine_lost', error: LonglineError, oomKilled = false): Verdict {
  return { state: 'indeterminate', reason, signal: '', oomKilled, error };
}

/** A job that was to be stopped before it ran anything, though its container was there. */
export function stoppedUnstarted(cause: StopCause): Verdict {
  return { ...STOPPED[cause], signal: '', oomKilled: false };
}

/** A job that was to be stopped and could not be: whatever it does is not ours to know. */
export function unstoppable(containerId: string, cause: StopCause): Verdict {
  const message = `container ${containerId} could not be ended; its removal is tried again and again`;
  return {
    state: 'indeterminate',
    reason: STOPPED[cause].reason,
    signal: '',
    oomKilled: false,
    error: new LonglineError('unavailable', message),
  };
}

/** A job that never started. */
export function unstarted(
  state: 'failed' | 'cancelled' | 'rejected',
  reason: 'image_unavailable' | 'start_failed' | 'cancelled' | 'rejected' | 'host_limit',
  error?: LonglineError,
): Verdict {
  return { state, reason, signal: '', oomKilled: false, ...(error === undefined ? {} : { error }) };
}

/** Signal that an exit code stands for by the convention 128 + number; empty if none. */
export function signalOf(exitCode: number): string {
  for (const [name, number] of Object.entries(constants.signals)) if (number === exitCode - 128) return name;
  return '';
}

const STOPPED = {
  cancelled: { state: 'cancelled', reason: 'cancelled' },
  timeout: { state: 'timed_out', reason: 'timeout' },
  host_limit: { state: 'failed', reason: 'host_limit' },
} as const satisfies Record<StopCause, Pick<Verdict, 'state' | 'reason'>>;

// Which states of a session mean what. Pure.
import { SessionState } from '#gen/longline/v1/session_pb.js';

/** States that a session leaves only by being started again. */
export const ENDED_STATES: readonly SessionState[] = [SessionState.ENDED, SessionState.FAILED];

/** States in which a session takes up a place and memory, but no processor time. */
export const DOZING_STATES: readonly SessionState[] = [SessionState.PAUSED];

/** States in which a session takes up nothing. */
export const SLEEPING_STATES: readonly SessionState[] = [SessionState.HIBERNATED, SessionState.CHECKPOINTED];

/** True for states that a session leaves only by being started again. */
export function hasEnded(state: SessionState): boolean {
  return ENDED_STATES.includes(state);
}

// What a session is doing, and why, as data. Pure.
import type { Reason } from '../../core/errors.ts';

/** How deep a session sleeps. */
export type Tier =
  /** Frozen in memory: wakes in milliseconds, frees processor time only. */
  | 'pause'
  /** Its processes are ended: frees memory, keeps volume, network and the container's own files. */
  | 'stop'
  /** Its memory is written to disk and its processes are ended. Needs CRIU. */
  | 'checkpoint';

/** What is to be brought about for a session and kept, over restarts of agent, engine and host. */
export type Goal =
  /** Its container runs. */
  | { readonly kind: 'running' }
  /** It sleeps. */
  | { readonly kind: 'asleep'; readonly tier: Tier }
  /** Nothing of it is left but volumes that are kept. */
  | { readonly kind: 'gone'; readonly removeVolumes: boolean };

/** Why a session is in its state. The names are those of longline.v1.SessionCause in lower case. */
export type Cause =
  | 'unspecified'
  | 'requested'
  | 'idle'
  | 'tunnel'
  | 'lifetime'
  | 'exited'
  | 'out_of_memory'
  | 'unhealthy'
  | 'crash_loop'
  | 'image_unavailable'
  | 'start_failed'
  | 'start_timeout'
  | 'host_limit'
  | 'engine_lost'
  | 'cancelled'
  | 'recovered'
  | 'lost';

/** What a session is doing. */
export type SessionState =
  /** The steps to a running container are being taken. */
  | { readonly kind: 'starting' }
  /** Its container runs, and its health check passes or it has none. */
  | { readonly kind: 'running' }
  /** Its container runs, and its health check failed too often. */
  | { readonly kind: 'unhealthy' }
  /** It is being put to sleep. */
  | { readonly kind: 'hibernating'; readonly tier: Tier }
  /** It sleeps until it is woken. */
  | { readonly kind: 'asleep'; readonly tier: Tier }
  /** It is being woken. */
  | { readonly kind: 'waking' }
  /** Its main process ended, and it is started again at `dueAtMs`. */
  | { readonly kind: 'restarting'; readonly dueAtMs: number }
  /** It is being ended and cleared away. */
  | { readonly kind: 'stopping' }
  /** Over as it should be. Nothing of it is left but volumes. */
  | { readonly kind: 'ended' }
  /** Over for another reason. Nothing of it runs; `wake` and `stop` are taken. */
  | { readonly kind: 'failed' };

/** A state for people, as it stands in refusals: "asleep (pause)". */
export function describeState(state: SessionState): string {
  return 'tier' in state ? `${state.kind} (${state.tier})` : state.kind;
}

/** What of its share of the host a session holds in a state: everything, all but processor time, or nothing. */
export function holds(state: SessionState): 'all' | 'memory' | 'nothing' {
  switch (state.kind) {
    case 'asleep':
      return state.tier === 'pause' ? 'memory' : 'nothing';
    case 'ended':
    case 'failed':
      return 'nothing';
    default:
      return 'all';
  }
}

/** True if nothing more happens to a session by itself. */
export function isOver(state: SessionState): boolean {
  return state.kind === 'ended' || state.kind === 'failed';
}

/** An error as it travels. */
export interface PlainError {
  readonly reason: Reason;
  readonly message: string;
  readonly retryable: boolean;
}

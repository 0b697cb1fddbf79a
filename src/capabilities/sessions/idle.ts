// When an idle session is put to sleep, and how deep. Pure: activity and time come in, the next thing to do comes out.
import type { SessionState, Tier } from './state.ts';

/** When nothing happens for long enough, a session goes down this ladder. */
export interface IdlePolicy {
  /** Idle for this long it is paused; undefined never. */
  readonly pauseAfterMs: number | undefined;
  /** Idle for this long it is stopped; undefined never. Counts from the same moment as `pauseAfterMs`. */
  readonly stopAfterMs: number | undefined;
  /** Up to this use of processor time in cores it is idle. */
  readonly maxCpus: number;
  /** Up to this many bytes a minute over its network, both ways, it is idle. */
  readonly maxNetworkBytes: number;
}

/** Resources used between two samples. */
export interface Rates {
  readonly cpuCores: number;
  readonly networkBytesPerMinute: number;
}

/** What the ladder says. */
export type IdleStep =
  /** Nothing now; look again at `atMs`, or when something changes if that is undefined. */
  | { readonly kind: 'wait'; readonly atMs: number | undefined }
  /** Put it to sleep as deep as `tier`. */
  | { readonly kind: 'hibernate'; readonly tier: Tier };

/** True if a session that does this is at work, whatever its tunnels do. */
export function isBusy(rates: Rates, policy: IdlePolicy): boolean {
  return rates.cpuCores > policy.maxCpus || rates.networkBytesPerMinute > policy.maxNetworkBytes;
}

/** What to do with a session that was last active at `activeAtMs`. */
export function idleStep(state: SessionState, policy: IdlePolicy, activeAtMs: number, nowMs: number): IdleStep {
  const stopAtMs = policy.stopAfterMs === undefined ? undefined : activeAtMs + policy.stopAfterMs;
  const pauseAtMs = policy.pauseAfterMs === undefined ? undefined : activeAtMs + policy.pauseAfterMs;
  const awake = state.kind === 'running' || state.kind === 'unhealthy';
  const paused = state.kind === 'asleep' && state.tier === 'pause';
  if (!awake && !paused) return { kind: 'wait', atMs: undefined };
  if (stopAtMs !== undefined && nowMs >= stopAtMs) return { kind: 'hibernate', tier: 'stop' };
  if (awake && pauseAtMs !== undefined && nowMs >= pauseAtMs) return { kind: 'hibernate', tier: 'pause' };
  return { kind: 'wait', atMs: earlier(awake ? pauseAtMs : undefined, stopAtMs) };
}

function earlier(left: number | undefined, right: number | undefined): number | undefined {
  if (left === undefined || right === undefined) return left ?? right;
  return Math.min(left, right);
}

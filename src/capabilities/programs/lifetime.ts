// How long a program has been loaded, across restarts of the agent and of the host. Within one boot time is counted by the boot clock,
// which no one sets; across boots by the wall clock, which may be wrong and never takes anything away. Pure.

/** A wall clock that is off by less than this was not set, it only drifts. */
const CLOCK_SET_MS = 5_000;

/** What clocks say at one moment. */
export interface Moment {
  readonly bootId: string;
  /** Since the host booted, also while it sleeps, milliseconds. */
  readonly bootMs: number;
  /** Since the epoch, milliseconds; may jump. */
  readonly wallMs: number;
}

/** Time that was used, as it is kept. */
export interface Lifetime {
  /** Used up to the mark, milliseconds. */
  readonly usedMs: number;
  /** When that was noted. */
  readonly mark: Moment;
}

/** A lifetime that begins. */
export function beginLifetime(now: Moment): Lifetime {
  return { usedMs: 0, mark: now };
}

/** Time used by now, milliseconds; never less than was noted. */
export function usedMs({ usedMs: before, mark }: Lifetime, now: Moment): number {
  const since = now.bootId === mark.bootId ? now.bootMs - mark.bootMs : now.wallMs - mark.wallMs;
  return before + Math.max(0, since);
}

/**
 * The same lifetime noted anew. Done now and then, so that a wall clock that was set meanwhile counts from there on: else the time that
 * it was wrong by would count as used after the next boot.
 */
export function noted(lifetime: Lifetime, now: Moment): Lifetime {
  return { usedMs: usedMs(lifetime, now), mark: now };
}

/** True if it should be noted anew: some time has passed, the host was booted, or somebody set the clock on the wall. */
export function isNoteDue({ mark }: Lifetime, now: Moment, everyMs: number): boolean {
  if (now.bootId !== mark.bootId) return true;
  const passedMs = now.bootMs - mark.bootMs;
  return passedMs >= everyMs || Math.abs(now.wallMs - mark.wallMs - passedMs) >= CLOCK_SET_MS;
}

/** Time that is left, milliseconds, not below 0; infinite for a ttl of 0. */
export function leftMs(lifetime: Lifetime, ttlMs: number, now: Moment): number {
  return ttlMs === 0 ? Number.POSITIVE_INFINITY : Math.max(0, ttlMs - usedMs(lifetime, now));
}

// How long programs wait between two looks, and how long what is done for them may take before it counts as stuck.
import type { ProgramRecord } from './record.ts';

/** After a failure of what is asked for. */
export const TRY_AGAIN = { baseMs: 2_000, capMs: 300_000 } as const;
/** After a failure of the kernel or the disk. */
export const STAND_AGAIN = { baseMs: 1_000, capMs: 30_000 } as const;
/** After a pass that made as many moves as it may. */
export const RESTLESS_MS = 1_000;
/** No pass follows on another one sooner, unless something else is asked for. */
export const LEAST_PAUSE_MS = 50;
/** Longest time between two looks at whether it runs where it is to. */
export const LOOK_MS = 10_000;
/** How often the time that was used is noted, so that a wall clock that is set later does no harm. */
export const NOTE_MS = 60_000;
/** Longer than any pass takes but for what is fetched. */
export const PASS_LIMIT_MS = 300_000;
/** A source that is slow is none that is stuck: each piece has a limit of its own, and what came is kept. */
export const FETCH_LIMIT_MS = 3_600_000;
/** By how much a look may begin late. */
export const LATE_MS = 60_000;

/** Time until the next look at a program that has nothing to do. */
export function lookAfterMs({ life }: ProgramRecord, checkIntervalMs: number): number {
  return life.kind === 'unloaded' || life.kind === 'expired' ? NOTE_MS : Math.min(LOOK_MS, checkIntervalMs);
}

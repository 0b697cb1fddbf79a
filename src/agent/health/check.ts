// One thing that is looked at to say how the agent is: what was found, why, and what mends it.

/** From best to worst. */
export const CHECK_STATES = ['ok', 'degraded', 'failed'] as const;

/** `ok`: as it should be. `degraded`: it works, but not all is as it should be. `failed`: it doesn't work. */
export type CheckState = (typeof CHECK_STATES)[number];

/** What a look gave. */
export interface Finding {
  readonly state: CheckState;
  /** For people: what is wrong, with values, or how it is. */
  readonly reason: string;
  /** For people: what to do; empty if nothing. */
  readonly mend: string;
}

/** Something to look at. */
export interface Check {
  /** "data_folder": stable, for machines. */
  readonly name: string;
  /** Should take milliseconds; what takes seconds, or throws, counts as failed. */
  look(): Finding | Promise<Finding>;
}

/** Nothing to do. */
export function fine(reason: string): Finding {
  return { state: 'ok', reason, mend: '' };
}

/** The worst of several; ok for none. */
export function worstOf(states: Iterable<CheckState>): CheckState {
  let worst = 0;
  for (const state of states) worst = Math.max(worst, CHECK_STATES.indexOf(state));
  return CHECK_STATES[worst]!;
}

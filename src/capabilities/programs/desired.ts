// What a controller wants, generation after generation: full states and deltas become one canonical state, whose digest both sides
// can compare. Pure. A delta that makes no sense is refused as a whole, since nobody could say any more what is wanted.
import type { StateRef } from '../../core/desired-state.ts';
import { LonglineError } from '../../core/errors.ts';
import { followState, type StateForm, stateDigest } from '../../core/held-state.ts';
import { applyProgramDelta } from '../../core/programs/program-delta.ts';
import { decodeDesiredState, encodeDesiredState, type ProgramSpecMessage } from './wire.ts';

/** All that a controller wants, as of one generation. */
export interface Held extends StateRef {
  /** In canonical order. */
  readonly programs: readonly ProgramSpecMessage[];
}

/** How programs are held. */
export const PROGRAM_FORM: StateForm<Held> = {
  follow: (held, generation, baseGeneration, body) =>
    followState(held, generation, baseGeneration, () => {
      const state = decodeDesiredState(body);
      if (baseGeneration === 0n && state.removedPrograms.length > 0) {
        throw new LonglineError('invalid', 'removed_programs: a full state has none; they belong to a delta');
      }
      const programs = applyProgramDelta(baseGeneration === 0n ? [] : held!.programs, state);
      return { generation, programs, digest: stateDigest(encodeDesiredState(programs)) };
    }),
  encode: ({ programs }) => encodeDesiredState(programs),
};

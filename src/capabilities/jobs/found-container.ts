// What an execution's container, found again, and its record tell of the job.
import type { Clock } from '../../core/clock.ts';
import type { FoundAgain } from './live-container.ts';
import { LABEL } from './plan.ts';
import type { RunState } from './run-state.ts';
import { initToken, RefusalScreen } from './warm-init.ts';

/** The container observed, and in `state` what is known by that. */
export function foundAgain(state: RunState, clock: Clock): FoundAgain {
  const { record } = state;
  const facts = state.observed!;
  const warm = facts.labels[LABEL.role] === 'warm';
  state.foundAgain = true;
  state.inputDone ||= record?.inputDone ?? false;
  if (state.imageName === '') state.imageName = facts.labels[LABEL.image] ?? facts.image;
  const recordedAtMs = record?.atMs ?? clock.now();
  return {
    id: facts.id,
    startedAtMs: warm ? recordedAtMs : (facts.startedAtMs ?? recordedAtMs),
    screen: warm ? new RefusalScreen(initToken(facts.name.replace('longline-warm-', ''))) : undefined,
  };
}

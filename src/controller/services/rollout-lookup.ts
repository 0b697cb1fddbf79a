// The rollout that a request names.
import type { Rollout } from '#gen/longline/fleet/v1/program_service_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import { isUuid } from '../../core/ids.ts';
import type { RolloutSummary } from '../store/rollout.ts';
import type { Store } from '../store/store.ts';
import { rolloutView } from './rollout-views.ts';
import { shown } from './shape.ts';

/** Agents that are shown of one rollout. */
const MAX_SHOWN_AGENTS = 1000;

/** Where rollouts are found. */
export interface RolloutLookup {
  readonly store: Pick<Store, 'assignments'>;
}

/** A rollout by its id; throws `invalid` for what is no id and `not_found`. */
export async function findRollout({ store }: RolloutLookup, id: string): Promise<RolloutSummary> {
  if (!isUuid(id)) throw invalid([{ field: 'id', description: `${shown(id)} must be the id of a rollout` }]);
  const found = await store.assignments.rollout(id);
  if (found === undefined) throw new LonglineError('not_found', `no rollout has id ${id}`);
  return found;
}

/** A rollout with its agents. */
export async function shownRollout(needs: RolloutLookup, id: string): Promise<Rollout> {
  // Of two moments, as is told: agents may be further than the rollout.
  const found = await findRollout(needs, id);
  return rolloutView(found, await needs.store.assignments.rolloutAgents(id, MAX_SHOWN_AGENTS));
}

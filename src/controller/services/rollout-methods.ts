// The methods of ProgramService for rollouts. Each stores what is asked for; the rollout driver takes the steps.
import { toBinary } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import { type ProgramService, type Rollout, RolloutSchema } from '#gen/longline/fleet/v1/program_service_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import { assignmentsTopic } from '../bus/topics.ts';
import { type AskedChange, abortRollout, pauseRollout, resumeRollout } from '../rollouts/assignment-change.ts';
import type { AssignmentState, RolloutRecord } from '../store/rollout.ts';
import { agentsOf, commitAssignment, retried } from './assignment-commit.ts';
import { programNameViolations } from './program-filter.ts';
import { findRollout, shownRollout } from './rollout-lookup.ts';
import { rolloutView } from './rollout-views.ts';
import { pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { nextWithin } from './waiting.ts';

const MAX_REASON = 1024;

/** Rollouts of one answer: the agents of each are counted. */
const MAX_PAGE = 100;

const PENDING_CHANGES = 1024;

type RolloutMethods = Pick<
  ServiceImpl<typeof ProgramService>,
  'getRollout' | 'listRollouts' | 'watchRollout' | 'pauseRollout' | 'resumeRollout' | 'abortRollout'
>;

/** Changes a rollout; `decide` gives undefined if there is nothing to change. */
async function steer(
  needs: ServiceDependencies,
  id: string,
  decide: (
    rollout: RolloutRecord,
    state: AssignmentState,
  ) => Promise<AskedChange | undefined> | AskedChange | undefined,
): Promise<Rollout> {
  return await retried(id, async () => {
    const { rollout } = await findRollout(needs, id);
    const state = await needs.store.assignments.get(rollout.assignment);
    if (state === undefined) throw new LonglineError('not_found', `no rollout has id ${id}`);
    // Read again with its assignment, so that the revision is that of what is changed.
    const underWay = state.rollout?.id === id ? state.rollout : undefined;
    if (underWay === undefined && rollout.endedAtMs === undefined) return undefined;
    const change = await decide(underWay ?? rollout, state);
    if (change !== undefined && !(await commitAssignment(needs, rollout.assignment, state, change))) return undefined;
    return await shownRollout(needs, id);
  });
}

async function* watchRollout(
  needs: ServiceDependencies,
  id: string,
  signal: AbortSignal,
): AsyncGenerator<{ rollout: Rollout }, void, undefined> {
  const { bus, clock, options } = needs;
  using changes = await bus.subscribe(assignmentsTopic, PENDING_CHANGES);
  const { rollout } = await findRollout(needs, id);
  let told = new Uint8Array();
  while (!signal.aborted) {
    const view = await shownRollout(needs, id).catch((error: unknown) => {
      // It goes with its assignment.
      if (error instanceof LonglineError && error.reason === 'not_found') return undefined;
      throw error;
    });
    if (view === undefined) return;
    const bytes = toBinary(RolloutSchema, view);
    if (Buffer.compare(bytes, told) !== 0) yield { rollout: view };
    told = bytes;
    if (view.endTime !== undefined) return;
    for (let ours = false; !ours && !signal.aborted; ) {
      const event = await nextWithin(changes, clock, options.recheckMs, signal);
      ours = event?.kind !== 'message' || event.message.assignment === rollout.assignment;
    }
  }
}

/** Rollouts over the store. */
export function rolloutMethods(needs: ServiceDependencies): RolloutMethods {
  const { clock } = needs;
  return {
    async getRollout({ id }) {
      return { rollout: await shownRollout(needs, id) };
    },

    async listRollouts(request) {
      const { assignment } = request;
      const violations = assignment === '' ? [] : programNameViolations(assignment, 'assignment');
      if (violations.length > 0) throw invalid(violations);
      const { pageSize, pageToken } = pageQuery(request);
      const query = { assignment, pageSize: Math.min(pageSize, MAX_PAGE), pageToken };
      const page = await needs.store.assignments.listRollouts(query);
      return { rollouts: page.items.map((one) => rolloutView(one, [])), nextPageToken: page.nextPageToken };
    },

    async *watchRollout({ id }, { signal }) {
      yield* watchRollout(needs, id, signal);
    },

    async pauseRollout({ id }) {
      return { rollout: await steer(needs, id, (rollout) => pauseRollout(rollout)) };
    },

    async resumeRollout({ id }) {
      return {
        rollout: await steer(needs, id, async (rollout, { agents }) =>
          resumeRollout(rollout, agents, await agentsOf(needs, rollout.assignment), clock.now()),
        ),
      };
    },

    async abortRollout({ id, reason }) {
      if (reason.length > MAX_REASON) {
        const description = `has ${reason.length} characters; at most ${MAX_REASON} are allowed`;
        throw invalid([{ field: 'reason', description }]);
      }
      return {
        rollout: await steer(needs, id, (rollout, { agents }) => abortRollout(rollout, agents, reason, clock.now())),
      };
    },
  };
}

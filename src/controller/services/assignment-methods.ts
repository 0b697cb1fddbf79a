// The methods of ProgramService for assignments. Each stores what is asked for, against the assignment that it read, and leaves the
// rest to the rollout driver.
import type { ServiceImpl } from '@connectrpc/connect';
import type {
  Assignment,
  ProgramAssignment,
  ProgramService,
  Rollout,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import { newIdAfter } from '../../core/ids.ts';
import { putAssignment, removeAssignment } from '../rollouts/assignment-change.ts';
import type { AssignmentRecord, AssignmentState } from '../store/rollout.ts';
import { agentsOf, commitAssignment, retried } from './assignment-commit.ts';
import { shapeAssignment } from './assignment-shape.ts';
import { programNameViolations } from './program-filter.ts';
import { shownRollout } from './rollout-lookup.ts';
import { assignmentView } from './rollout-views.ts';
import { pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';

/** Agents that are looked at for one answer of ListAssignments; a page ends early rather than go past it. */
const MAX_LISTED_AGENTS = 20_000;

type AssignmentMethods = Pick<
  ServiceImpl<typeof ProgramService>,
  'putAssignment' | 'getAssignment' | 'listAssignments' | 'deleteAssignment'
>;

/** An assignment by its name; throws `invalid` for what is no name and `not_found`. */
async function findAssignment({ store }: ServiceDependencies, name: string): Promise<AssignmentState> {
  const violations = programNameViolations(name, 'name');
  if (violations.length > 0) throw invalid(violations);
  const state = await store.assignments.get(name);
  if (state === undefined) throw new LonglineError('not_found', `no assignment has name ${name}`);
  return state;
}

async function shownAssignment(needs: ServiceDependencies, assignment: AssignmentRecord): Promise<Assignment> {
  return assignmentView(assignment, await agentsOf(needs, assignment.name, assignment.asked));
}

interface PutAnswer {
  readonly assignment: Assignment;
  readonly rollout?: Rollout;
}

/** One attempt to make an assignment be so; undefined if somebody else was quicker. */
async function put(
  needs: ServiceDependencies,
  asked: ProgramAssignment,
  validateOnly: boolean,
): Promise<PutAnswer | undefined> {
  const { clock, store } = needs;
  const { bytes } = await shapeAssignment(store, asked, 'assignment');
  const { name } = asked;
  const state = await store.assignments.get(name);
  const own = await store.assignments.agentWithOwn(name);
  if (own !== undefined) {
    const message = `agent ${own} has a program ${name} that was put by itself; delete that, or take another name`;
    throw new LonglineError('wrong_state', message);
  }
  const nowMs = clock.now();
  const agents = await agentsOf(needs, name, bytes, state?.assignment.settled);
  // The latest rollout is the one with the greatest id.
  const id = newIdAfter(state?.assignment.rolloutId ?? '', nowMs);
  const { change, rollout } = putAssignment(name, state, bytes, agents, id, nowMs);
  if (validateOnly) {
    const times = { createdAtMs: nowMs, updatedAtMs: nowMs, revision: 0, rolloutId: '' };
    const record = { name, settled: undefined, removing: false, ...times, ...state?.assignment, asked: bytes };
    return { assignment: assignmentView(record, agents) };
  }
  if (change !== undefined && !(await commitAssignment(needs, name, state, change))) return undefined;
  const { assignment } = await findAssignment(needs, name);
  const answer = { assignment: await shownAssignment(needs, assignment) };
  return rollout === undefined ? answer : { ...answer, rollout: await shownRollout(needs, rollout.id) };
}

async function remove(needs: ServiceDependencies, name: string): Promise<Assignment> {
  return await retried(name, async () => {
    const state = await findAssignment(needs, name);
    const change = removeAssignment(state, needs.clock.now());
    if (change !== undefined && !(await commitAssignment(needs, name, state, change))) return undefined;
    return await shownAssignment(needs, { ...state.assignment, removing: true });
  });
}

/** Assignments over the store. */
export function assignmentMethods(needs: ServiceDependencies): AssignmentMethods {
  const { assignments } = needs.store;
  return {
    async putAssignment({ assignment, validateOnly }) {
      if (assignment === undefined) throw invalid([{ field: 'assignment', description: 'is missing' }]);
      return await retried(assignment.name, () => put(needs, assignment, validateOnly));
    },

    async getAssignment({ name }) {
      const { assignment } = await findAssignment(needs, name);
      return { assignment: await shownAssignment(needs, assignment) };
    },

    async listAssignments(request) {
      const page = pageQuery(request);
      const found = await assignments.list(page);
      const shown: Assignment[] = [];
      let agents = 0;
      for (const [place, record] of found.items.entries()) {
        if (place > 0 && agents > MAX_LISTED_AGENTS) {
          const { nextPageToken } = await assignments.list({ ...page, pageSize: place });
          return { assignments: shown, nextPageToken };
        }
        const view = await shownAssignment(needs, record);
        agents += view.agents;
        shown.push(view);
      }
      return { assignments: shown, nextPageToken: found.nextPageToken };
    },

    async deleteAssignment({ name }) {
      return { assignment: await remove(needs, name) };
    },
  };
}

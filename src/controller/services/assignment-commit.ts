// Storing changes of assignments, against what was read of them.
import { LonglineError } from '../../core/errors.ts';
import { assignmentsTopic } from '../bus/topics.ts';
import { noArtifact } from '../programs/program-changes.ts';
import type { AskedChange } from '../rollouts/assignment-change.ts';
import { targetOf } from '../rollouts/target.ts';
import type { AgentSelector } from '../store/agent.ts';
import type { AssignedAgentRecord, AssignmentState } from '../store/rollout.ts';
import type { ServiceDependencies } from './service-dependencies.ts';

/** How often a change is made anew because somebody else was quicker. */
const MAX_ATTEMPTS = 32;

/** Makes a change against what was read, anew for as long as somebody else is quicker. */
export async function retried<T>(name: string, attempt: () => Promise<T | undefined>): Promise<T> {
  for (let left = MAX_ATTEMPTS; left > 0; left--) {
    const done = await attempt();
    if (done !== undefined) return done;
  }
  throw new LonglineError('unavailable', `assignment ${name} changes too fast; try again`);
}

/** Stores a change of an assignment and tells of it; false if somebody else was quicker. */
export async function commitAssignment(
  { bus, clock, store }: ServiceDependencies,
  name: string,
  state: AssignmentState | undefined,
  change: AskedChange,
): Promise<boolean> {
  const baseRevision = state?.assignment.revision ?? 0;
  const outcome = await store.assignments.commit({ name, baseRevision, nowMs: clock.now(), ...change });
  if (outcome.kind === 'no_artifact') throw noArtifact(outcome.digest);
  if (outcome.kind === 'conflict') return false;
  bus.publish(assignmentsTopic, { assignment: name });
  return true;
}

/** Agents that an assignment has to do with, or would have if it were asked for like this. */
export async function agentsOf(
  { store }: ServiceDependencies,
  name: string,
  ...targets: readonly (Uint8Array | undefined)[]
): Promise<readonly AssignedAgentRecord[]> {
  const selectors: AgentSelector[] = targets.flatMap((bytes) => (bytes === undefined ? [] : targetOf(bytes).selector));
  return await store.assignments.agents(name, selectors);
}

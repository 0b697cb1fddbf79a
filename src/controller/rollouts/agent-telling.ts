// Tells one agent what an assignment wants of it: what is wanted of the agent, and that it was told, in one transaction, and only
// if the assignment is still as it was read. Fails with the store's own error.

import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Bus } from '../bus/bus.ts';
import { ProgramChanges, type ProgramEdit, programHash } from '../programs/program-changes.ts';
import type { ProgramCommit, ProgramRecord } from '../store/program.ts';
import type { AssignmentRecord, DeliveryOutcome } from '../store/rollout.ts';
import type { Store } from '../store/store.ts';
import type { Telling } from './assigned-agents.ts';
import type { Wanted } from './target.ts';

/** What it needs. */
export interface TellingParts {
  readonly store: Pick<Store, 'desiredStates' | 'programs' | 'assignments'>;
  readonly bus: Bus;
  readonly clock: Clock;
}

/** What came of it. */
export type TellingOutcome =
  | { readonly kind: 'told' }
  /** The assignment has changed, or the agent is gone: what to tell has to be found anew. */
  | { readonly kind: 'overtaken' }
  /** It can't be told for now. */
  | { readonly kind: 'blocked'; readonly reason: string };

/** The assignment is another one by now. */
class Overtaken extends Error {}

/** Tells an agent. */
export async function tellAgent(
  parts: TellingParts,
  { name, revision }: Pick<AssignmentRecord, 'name' | 'revision'>,
  { record, wanted }: Telling,
): Promise<TellingOutcome> {
  const { store, bus, clock } = parts;
  const { agentId } = record;
  const delivery = {
    assignment: name,
    agentId,
    spec: wanted?.bytes,
    artifact: wanted?.spec.artifact ?? '',
    delivery: wanted?.delivery ?? record.delivery?.delivery ?? 'push',
    atMs: clock.now(),
  };
  const tell = async (programs: ProgramCommit | undefined): Promise<Exclude<DeliveryOutcome, { kind: 'conflict' }>> => {
    const outcome = await store.assignments.tell({ baseRevision: revision, delivery, programs });
    if (outcome.kind === 'conflict') throw new Overtaken();
    return outcome;
  };
  const commit = async (change: ProgramCommit) => {
    const outcome = await tell(change);
    return outcome.kind === 'stored' ? { kind: outcome.kind, generation: change.state.expected + 1n } : outcome;
  };
  const programs = { ofAgent: async (id: string) => await store.programs.ofAgent(id), commit };
  const changes = new ProgramChanges({ store: { desiredStates: store.desiredStates, programs }, bus, clock });
  try {
    const changed = await changes.apply(agentId, (before) => editsOf(name, wanted, before));
    const outcome = changed ? ({ kind: 'stored' } as const) : await tell(undefined);
    if (outcome.kind === 'stored') return { kind: 'told' };
    return outcome.kind === 'no_artifact'
      ? { kind: 'blocked', reason: `artifact ${outcome.digest} is not stored here` }
      : { kind: 'overtaken' };
  } catch (error) {
    if (error instanceof Overtaken) return { kind: 'overtaken' };
    if (!(error instanceof LonglineError) || error.reason === 'unavailable') throw error;
    return error.reason === 'not_found' ? { kind: 'overtaken' } : { kind: 'blocked', reason: error.message };
  }
}

function editsOf(name: string, wanted: Wanted | undefined, before: readonly ProgramRecord[]): readonly ProgramEdit[] {
  const there = before.find((one) => one.name === name && !one.removing);
  const isOwn = there !== undefined && there.assignment !== name;
  if (wanted !== undefined && isOwn) {
    const message = `the agent has a program ${name} of its own; delete that, or take another name`;
    throw new LonglineError('wrong_state', message);
  }
  if (wanted?.delivery === 'push') {
    return [{ kind: 'put', assignment: name, spec: wanted.spec, hash: programHash(wanted.spec) }];
  }
  return there === undefined || isOwn ? [] : [{ kind: 'remove', name }];
}

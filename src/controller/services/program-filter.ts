// Which programs are asked for, checked; and walking over the agents that may have such.
import type { Program, ProgramFilter } from '#gen/longline/fleet/v1/program_service_pb.js';
import { ProgramState } from '#gen/longline/v1/program_pb.js';
import { type FieldViolation, invalid } from '../../core/errors.ts';
import { PROGRAM_NAME, PROGRAM_NAME_FORM } from '../../core/programs/program-spec.ts';
import type { Store } from '../store/store.ts';
import { agentIdViolations } from './agent-lookup.ts';
import { nameOf, stateOf } from './program-views.ts';
import { shown } from './shape.ts';

const AGENTS_AT_ONCE = 200;

/** Conditions that all have to hold; empty ones always do. */
export interface CheckedFilter {
  readonly agentId: string;
  readonly name: string;
  readonly assignment: string;
  readonly states: ReadonlySet<ProgramState>;
}

/** What is wrong with the name of a program or assignment. */
export function programNameViolations(name: string, field: string): readonly FieldViolation[] {
  return PROGRAM_NAME.test(name) ? [] : [{ field, description: `${shown(name)} must be ${PROGRAM_NAME_FORM}` }];
}

/** Throws `invalid` with every field that is wrong. */
export function checkedFilter(filter: ProgramFilter | undefined): CheckedFilter {
  const { agentId = '', name = '', assignment = '', states = [] } = filter ?? {};
  const violations = [
    ...(agentId === '' ? [] : agentIdViolations(agentId, 'filter.agent_id')),
    ...(name === '' ? [] : programNameViolations(name, 'filter.name')),
    ...(assignment === '' ? [] : programNameViolations(assignment, 'filter.assignment')),
    ...states.flatMap((state, place) =>
      state in ProgramState ? [] : [{ field: `filter.states[${place}]`, description: `${state} is unknown` }],
    ),
  ];
  if (violations.length > 0) throw invalid(violations);
  return { agentId, name, assignment, states: new Set(states) };
}

/** True if a program meets all conditions. */
export function meets(filter: CheckedFilter, program: Program): boolean {
  const { agentId, assignment, name, states } = filter;
  if (agentId !== '' && agentId !== program.agentId) return false;
  if (name !== '' && name !== nameOf(program)) return false;
  if (assignment !== '' && assignment !== program.assignment) return false;
  return states.size === 0 || states.has(stateOf(program));
}

/** Agents that have programs, or told of any, from this id on. */
export async function* agentsFrom(
  { programs }: Pick<Store, 'programs'>,
  { agentId: only }: CheckedFilter,
  fromAgentId: string,
): AsyncGenerator<string, void, undefined> {
  if (only !== '') {
    if (only >= fromAgentId) yield only;
    return;
  }
  for (let from = fromAgentId; ; ) {
    const agents = await programs.agents(from, AGENTS_AT_ONCE);
    yield* agents;
    if (agents.length < AGENTS_AT_ONCE) return;
    // The least text that comes after the last.
    from = `${agents.at(-1)}\0`;
  }
}

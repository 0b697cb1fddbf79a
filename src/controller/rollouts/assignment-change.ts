// Changes of an assignment that somebody asks for: what is asked for anew and so rolled out, paused, resumed, given up, taken
// away. Each gives the change to store, made from one moment of it. Pure.
import { equals } from '@bufbuild/protobuf';
import { RolloutStrategySchema } from '#gen/longline/fleet/v1/program_service_pb.js';
import { LonglineError } from '../../core/errors.ts';
import type {
  AssignedAgentRecord,
  AssignmentChange,
  AssignmentState,
  RolloutAgentRecord,
  RolloutRecord,
} from '../store/rollout.ts';
import { knownRollback } from './agent-standing.ts';
import { beginWave, ended, goingBack } from './progress.ts';
import { isForward, sameWanted, type Target, targetOf, toldOf, wantedBy } from './target.ts';
import { assignWaves } from './waves.ts';

/** What of a change is decided here. */
export type AskedChange = Omit<AssignmentChange, 'name' | 'baseRevision' | 'nowMs'>;

/** A change with the rollout that it begins, if it begins one. */
export interface PutChange {
  /** Undefined if everything is as it is asked for. */
  readonly change: AskedChange | undefined;
  readonly rollout: RolloutRecord | undefined;
  readonly agents: readonly RolloutAgentRecord[];
}

/** True if both ask for the same of the same agents. */
function asksTheSame(one: Target, other: Target): boolean {
  return sameWanted(one.wanted, other.wanted) && sameSelector(one, other);
}

function sameSelector({ selector: one }: Target, { selector: other }: Target): boolean {
  const form = ({ agentIds, hasLabels, matchLabels }: Target['selector']) =>
    JSON.stringify([[...agentIds].sort(), [...hasLabels].sort(), Object.entries(matchLabels).sort()]);
  return form(one) === form(other);
}

/**
 * What is to become of an assignment that is asked for like this. `asked` is a complete and canonical ProgramAssignment; `agents`
 * are those that it or what is settled picks, or that were told something. Throws `wrong_state` while it is being removed.
 */
export function putAssignment(
  name: string,
  state: AssignmentState | undefined,
  asked: Uint8Array,
  agents: readonly AssignedAgentRecord[],
  newRolloutId: string,
  nowMs: number,
): PutChange {
  if (state?.assignment.removing) {
    throw new LonglineError('wrong_state', `assignment ${name} is being removed; wait until it is gone`);
  }
  const next = targetOf(asked);
  const { artifact } = next.wanted.spec;
  const active = state?.rollout;
  const settled = state?.assignment.settled && targetOf(state.assignment.settled);
  const before = state && targetOf(state.assignment.asked);
  const sameStrategy =
    before !== undefined && equals(RolloutStrategySchema, before.asked.strategy!, next.asked.strategy!);
  const none = { rollout: undefined, agents: [] };
  if (active === undefined && settled !== undefined && asksTheSame(settled, next)) {
    const same = sameStrategy && before !== undefined && asksTheSame(before, next);
    return {
      ...none,
      change: same ? undefined : { asked: { bytes: asked, artifact }, settled: { bytes: asked, artifact } },
    };
  }
  const underWay = active !== undefined && isForward(active.phase) && active.phase !== 'halted';
  if (underWay && sameStrategy && before !== undefined && asksTheSame(before, next))
    return { ...none, change: undefined };
  const begun = beginRollout(newRolloutId, name, next, asked, settled, state, agents, nowMs);
  const over = active && ended(active, 'superseded', `rollout ${newRolloutId} took its place`, nowMs);
  const putRollouts = over === undefined ? [begun.rollout] : [over, begun.rollout];
  return { ...begun, change: { asked: { bytes: asked, artifact }, putRollouts, putAgents: begun.agents } };
}

function beginRollout(
  id: string,
  name: string,
  next: Target,
  asked: Uint8Array,
  settled: Target | undefined,
  state: AssignmentState | undefined,
  agents: readonly AssignedAgentRecord[],
  nowMs: number,
): { readonly rollout: RolloutRecord; readonly agents: readonly RolloutAgentRecord[] } {
  const staged: AssignedAgentRecord[] = [];
  // Those to whom nothing is new have it at once, whatever they were told meanwhile.
  const first: string[] = [];
  for (const agent of agents) {
    if (!agent.valid) continue;
    const wanted = wantedBy(next, agent);
    if (!sameWanted(wanted, wantedBy(settled, agent))) staged.push(agent);
    else if (!sameWanted(wanted, toldOf(agent.delivery))) first.push(agent.agentId);
  }
  const { waveOf, waves } = assignWaves(name, next.asked.strategy!.waves, staged);
  const placed = [...waveOf, ...first.map((agentId) => [agentId, 1] as const)];
  const rows = placed.map(([agentId, wave]): RolloutAgentRecord => {
    return { agentId, wave, step: 'waiting', reason: '', sinceMs: nowMs, rollbackId: '' };
  });
  const times = { phaseAtMs: nowMs, startedAtMs: nowMs, endedAtMs: undefined };
  const rollout: RolloutRecord = {
    id,
    assignment: name,
    asked,
    before: state?.assignment.settled,
    phase: 'running',
    paused: false,
    reason: '',
    wave: 1,
    waves,
    ...times,
  };
  const records = new Map(agents.map((agent) => [agent.agentId, agent]));
  const rollbackOf = (agentId: string): string => knownRollback(name, records.get(agentId));
  const wave = beginWave(rollout, rows, 1, rollbackOf, nowMs);
  const begun = new Map(wave.agents.map((agent) => [agent.agentId, agent]));
  return { rollout: wave.rollout, agents: rows.map((row) => begun.get(row.agentId) ?? row) };
}

/** Has a rollout begin no further wave; undefined if it doesn't already. */
export function pauseRollout(rollout: RolloutRecord): AskedChange | undefined {
  requireUnderWay(rollout, 'paused');
  if (rollout.paused || rollout.phase === 'waiting') return undefined;
  return { putRollouts: [{ ...rollout, paused: true, reason: 'it was paused' }] };
}

/** Has a rollout go on. Throws `wrong_state` if it is neither paused nor waits. */
export function resumeRollout(
  rollout: RolloutRecord,
  agents: readonly RolloutAgentRecord[],
  records: readonly AssignedAgentRecord[],
  nowMs: number,
): AskedChange {
  requireUnderWay(rollout, 'resumed');
  if (rollout.phase === 'waiting') {
    const known = new Map(records.map((record) => [record.agentId, record]));
    const rollbackOf = (agentId: string) => knownRollback(rollout.assignment, known.get(agentId));
    const next = beginWave(rollout, agents, rollout.wave + 1, rollbackOf, nowMs);
    return { putRollouts: [next.rollout], putAgents: next.agents };
  }
  if (rollout.paused) return { putRollouts: [{ ...rollout, paused: false, reason: '' }] };
  throw new LonglineError('wrong_state', `rollout ${rollout.id} is not paused; there is nothing to resume`);
}

/** Has a rollout go back; undefined if it does already. */
export function abortRollout(
  rollout: RolloutRecord,
  agents: readonly RolloutAgentRecord[],
  reason: string,
  nowMs: number,
): AskedChange | undefined {
  if (rollout.phase === 'rolling_back') return undefined;
  requireGoingOn(rollout, 'aborted');
  const why = reason === '' ? 'it was aborted' : `it was aborted: ${reason}`;
  const back = goingBack(rollout, agents, why, nowMs);
  return { putRollouts: [back.rollout], putAgents: back.agents };
}

/** Takes an assignment away; undefined if it is being taken away already. */
export function removeAssignment({ assignment, rollout }: AssignmentState, nowMs: number): AskedChange | undefined {
  if (assignment.removing) return undefined;
  const over = rollout && ended(rollout, 'superseded', 'the assignment was deleted', nowMs);
  return { removing: true, putRollouts: over === undefined ? [] : [over] };
}

function requireGoingOn({ endedAtMs, id, phase }: RolloutRecord, what: string): void {
  if (endedAtMs === undefined) return;
  throw new LonglineError(
    'wrong_state',
    `rollout ${id} is over (${phase}) and can't be ${what}; put the assignment again`,
  );
}

function requireUnderWay(rollout: RolloutRecord, what: string): void {
  requireGoingOn(rollout, what);
  const { id, phase } = rollout;
  if (isForward(phase) && phase !== 'halted') return;
  const why = phase === 'halted' ? 'was halted' : 'goes back';
  const mend = phase === 'halted' ? 'abort it, or put the assignment again' : 'wait until it is over';
  throw new LonglineError('wrong_state', `rollout ${id} ${why} and can't be ${what}; ${mend}`);
}

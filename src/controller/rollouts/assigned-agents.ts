// The agents of an assignment at one moment: who has to be told something, of whom nothing has to be kept any more, and what is
// known of each for a rollout. Pure.
import type { AssignedAgentRecord, DeliveryRecord } from '../store/rollout.ts';
import { knownRollback, type Standing, standingOf } from './agent-standing.ts';
import type { AgentFacts } from './progress.ts';
import { type AssignmentPlan, isForward, sameWanted, toldOf, type Wanted } from './target.ts';

/** Something to tell an agent. */
export interface Telling {
  readonly record: AssignedAgentRecord;
  /** Undefined to take the program away. */
  readonly wanted: Wanted | undefined;
}

/** What agents have to be told. */
export function tellings(plan: AssignmentPlan, records: readonly AssignedAgentRecord[]): readonly Telling[] {
  return records.flatMap((record) => {
    const wanted = plan.wanted(record);
    return sameWanted(wanted, toldOf(record.delivery)) ? [] : [{ record, wanted }];
  });
}

/** Agents that the program was taken from, or that will never say so. */
export function takenFrom(plan: AssignmentPlan, records: readonly AssignedAgentRecord[]): readonly DeliveryRecord[] {
  const { name } = plan.state.assignment;
  return records.flatMap((record) => {
    const { delivery, valid } = record;
    if (delivery === undefined || delivery.spec !== undefined) return [];
    const gone = !valid || standingOf(name, record, undefined, undefined).kind === 'current';
    return gone ? [delivery] : [];
  });
}

/** What is known of the agents of the rollout under way. `blocked` says who could not be told, and why. */
export function factsOf(
  plan: AssignmentPlan,
  records: readonly AssignedAgentRecord[],
  blocked: ReadonlyMap<string, string>,
): ReadonlyMap<string, AgentFacts> {
  const { agents, assignment, rollout } = plan.state;
  const { name } = assignment;
  const rows = new Map(agents.map((agent) => [agent.agentId, agent]));
  const forward = rollout !== undefined && isForward(rollout.phase);
  const facts = new Map<string, AgentFacts>();
  for (const record of records) {
    const { agentId, connectedAtMs, online, valid } = record;
    const row = rows.get(agentId);
    if (row === undefined) continue;
    const reason = blocked.get(agentId);
    // Asked for by those whose wave is under way or begins: reading what all the others say takes the most time.
    facts.set(agentId, {
      valid,
      online,
      connectedAtMs,
      get standing(): Standing {
        if (reason !== undefined) return { kind: 'failed', reason };
        return standingOf(name, record, plan.wanted(record), forward ? row.rollbackId : undefined);
      },
      get rollbackId() {
        return knownRollback(name, record);
      },
    });
  }
  return facts;
}

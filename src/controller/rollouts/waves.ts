// Which agents come in which wave. Agents that are there come before those that aren't, so that a first wave shows something;
// among them the order is that of a hash of assignment and agent, the same for each rollout: the first ones are always the same,
// and a change that follows on another does not wander over the fleet. Pure.
import { createHash } from 'node:crypto';

/** An agent that is to be in a wave. */
export interface WaveCandidate {
  readonly agentId: string;
  readonly online: boolean;
}

/**
 * How many agents have the change after each wave: as many as its percent holds whole, but at least one more than after the wave
 * before. Ends with the wave that reaches all; one wave of nobody for no agents. `percents` grow and end with 100.
 */
export function waveTotals(percents: readonly number[], agents: number): readonly number[] {
  const totals: number[] = [];
  for (const percent of percents) {
    const before = totals.at(-1) ?? 0;
    if (before === agents && totals.length > 0) break;
    totals.push(Math.min(agents, Math.max(Math.floor((agents * percent) / 100), before + 1)));
  }
  return totals;
}

/** Wave of each agent, from 1, and how many there are. */
export function assignWaves(
  assignment: string,
  percents: readonly number[],
  candidates: readonly WaveCandidate[],
): { readonly waveOf: ReadonlyMap<string, number>; readonly waves: number } {
  const placed = candidates.map(({ agentId, online }) => ({ agentId, online, place: placeOf(assignment, agentId) }));
  placed.sort((one, other) => {
    if (one.online !== other.online) return one.online ? -1 : 1;
    return one.place < other.place ? -1 : 1;
  });
  const totals = waveTotals(percents, placed.length);
  const waveOf = new Map<string, number>();
  for (const [at, { agentId }] of placed.entries()) waveOf.set(agentId, totals.findIndex((total) => at < total) + 1);
  return { waveOf, waves: totals.length };
}

function placeOf(assignment: string, agentId: string): string {
  return createHash('sha256').update(`${assignment}\n${agentId}`).digest('hex');
}

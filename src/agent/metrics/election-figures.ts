// Figures of leader election, as one replica sees it.
import { family, type MetricCollector } from '../../core/metrics/metric.ts';
import { ELECTION_METRICS } from '../../telemetry/metrics/agent-names.ts';
import type { Election } from '../ha/election.ts';

/** Figures of an election. @param now milliseconds since the epoch. */
export function electionCollector(
  agentId: string,
  { election, now }: { readonly election: Pick<Election, 'state' | 'tally'>; readonly now: () => number },
): MetricCollector {
  return {
    name: 'election',
    collect: () => {
      const { state, tally } = election;
      const { answeredAgoMs } = tally;
      const answeredS = answeredAgoMs === undefined ? undefined : (now() - answeredAgoMs) / 1000;
      const byReason = (counts: ReadonlyMap<string, number>) =>
        [...counts].map(([reason, count]) => [count, agentId, reason] as const);
      return [
        family(ELECTION_METRICS.leading, [[Number(state.kind === 'leading'), agentId]]),
        family(ELECTION_METRICS.epoch, [[Number(state.highest), agentId]]),
        family(ELECTION_METRICS.answered, [[answeredS, agentId]]),
        family(ELECTION_METRICS.won, [[tally.won, agentId]]),
        family(ELECTION_METRICS.ended, byReason(tally.ended)),
        family(ELECTION_METRICS.errors, byReason(tally.errors)),
      ];
    },
  };
}

// Which agents a job goes to. Pure: the candidates come from the store.
import { LonglineError } from '../../core/errors.ts';
import type { AgentCandidate } from '../store/agent.ts';

/** Open work per place, so that large and small hosts fill alike. */
function loadOf(agent: AgentCandidate): number {
  const open = Math.max(agent.openCommands, agent.runningJobs + agent.queuedJobs);
  return open / Math.max(agent.maxJobs, 1);
}

/** Why an agent can't be given a job now; undefined if it can. */
function obstacle(agent: AgentCandidate): string | undefined {
  if (agent.revoked) return 'revoked';
  if (agent.drained) return 'drained';
  if (!agent.online) return 'offline';
  if (agent.offersJobs !== true) return 'without the jobs capability';
  return undefined;
}

function tally(reasons: readonly (string | undefined)[]): string {
  const counts = new Map<string, number>();
  for (const reason of reasons) if (reason !== undefined) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts].map(([reason, count]) => `${count} ${reason}`).join(', ');
}

function noMatch(): LonglineError {
  return new LonglineError('not_found', 'no agent matches the selector; see which labels the agents have');
}

/** The least loaded agent that can take a job now; of equals, any. */
export function leastLoaded(candidates: readonly AgentCandidate[], random: () => number = Math.random): string {
  if (candidates.length === 0) throw noMatch();
  const able = candidates.filter((agent) => obstacle(agent) === undefined);
  if (able.length === 0) {
    const why = tally(candidates.map(obstacle));
    throw new LonglineError(
      'wrong_state',
      `${candidates.length} agents match the selector, none can take a job: ${why}`,
      { retryable: true },
    );
  }
  const least = Math.min(...able.map(loadOf));
  const equals = able.filter((agent) => loadOf(agent) === least);
  return equals[Math.floor(random() * equals.length)]!.id;
}

/** Every agent that takes commands, also those that are away: they get the job when they return before it expires. */
export function everyAgent(candidates: readonly AgentCandidate[]): readonly string[] {
  if (candidates.length === 0) throw noMatch();
  const able = candidates.filter((agent) => !agent.revoked && !agent.drained);
  if (able.length > 0) return able.map((agent) => agent.id);
  const why = tally(candidates.map((agent) => (agent.revoked ? 'revoked' : 'drained')));
  throw new LonglineError('wrong_state', `${candidates.length} agents match the selector, none takes commands: ${why}`);
}

// On which agent a session is started. Pure: the candidates come from the store. Refusals name the numbers. What an agent
// really has room for it decides itself when the start arrives.
import { formatByteSize } from '../../core/byte-size.ts';
import { LonglineError } from '../../core/errors.ts';
import type { SessionCandidate, SessionNeeds } from '../store/session.ts';

/** What a session takes up if its spec doesn't say. */
export const DEFAULT_NEEDS: SessionNeeds = { cpus: 1, memoryBytes: 1024 ** 3 };

/** Why an agent can't be given a session at all; undefined if it can. */
function obstacle(agent: SessionCandidate): string | undefined {
  if (agent.revoked) return 'revoked';
  if (agent.drained) return 'drained';
  if (!agent.online) return 'offline';
  if (agent.offersSessions !== true) return 'without the sessions capability';
  return undefined;
}

/** What an agent lacks; undefined if it has room, or its limits aren't known. */
function lack({ held, max }: SessionCandidate, needs: SessionNeeds): string | undefined {
  if (max.sessions > 0 && held.sessions + 1 > max.sessions) return `${held.sessions} of ${max.sessions} sessions`;
  if (max.cpus > 0 && held.cpus + needs.cpus > max.cpus) {
    return `${held.cpus} of ${max.cpus} cpus are taken, ${needs.cpus} asked for`;
  }
  if (max.memoryBytes > 0 && held.memoryBytes + needs.memoryBytes > max.memoryBytes) {
    const [taken, most, asked] = [held.memoryBytes, max.memoryBytes, needs.memoryBytes].map(formatByteSize);
    return `${taken} of ${most} memory are taken, ${asked} asked for`;
  }
  return undefined;
}

const share = (taken: number, most: number): number => (most > 0 ? taken / most : 0);

/** How full an agent would be with the session: its scarcest good. */
function fullness({ held, max }: SessionCandidate, needs: SessionNeeds): number {
  return Math.max(
    share(held.sessions + 1, max.sessions),
    share(held.cpus + needs.cpus, max.cpus),
    share(held.memoryBytes + needs.memoryBytes, max.memoryBytes),
  );
}

function refusal(candidates: readonly SessionCandidate[], needs: SessionNeeds): LonglineError {
  const full = candidates.filter((agent) => obstacle(agent) === undefined);
  if (full.length > 0) {
    const said = full.slice(0, 3).map((agent) => `${agent.id}: ${lack(agent, needs)}`);
    const more = full.length > 3 ? ` and ${full.length - 3} more` : '';
    const message = `${full.length} agents could take the session, none has room: ${said.join('; ')}${more}`;
    return new LonglineError('limit', message);
  }
  const counts = new Map<string, number>();
  for (const agent of candidates) {
    const why = obstacle(agent) ?? '';
    counts.set(why, (counts.get(why) ?? 0) + 1);
  }
  const tally = [...counts].map(([why, count]) => `${count} ${why}`).join(', ');
  return new LonglineError(
    'wrong_state',
    `${candidates.length} agents match the selector, none can take a session: ${tally}`,
    { retryable: true },
  );
}

/** The agent with most room; of equals, any. */
export function roomiest(
  candidates: readonly SessionCandidate[],
  needs: SessionNeeds,
  random: () => number = Math.random,
): string {
  if (candidates.length === 0) {
    throw new LonglineError('not_found', 'no agent matches the selector; see which labels the agents have');
  }
  const able = candidates.filter((agent) => obstacle(agent) === undefined && lack(agent, needs) === undefined);
  if (able.length === 0) throw refusal(candidates, needs);
  const least = Math.min(...able.map((agent) => fullness(agent, needs)));
  const equals = able.filter((agent) => fullness(agent, needs) === least);
  return equals[Math.floor(random() * equals.length)]!.id;
}

/** Checks an agent that was named. One that is away is taken: it gets the start when it returns before that expires. */
export function checkNamed(agentId: string, candidate: SessionCandidate | undefined, needs: SessionNeeds): void {
  if (candidate === undefined) throw new LonglineError('not_found', `no agent has id ${agentId}`);
  if (candidate.offersSessions === false) {
    throw new LonglineError(
      'unsupported',
      `agent ${agentId} is without the sessions capability; 'longline agents get ${agentId}' says why`,
    );
  }
  const why = lack(candidate, needs);
  if (why !== undefined) throw new LonglineError('limit', `agent ${agentId} has no room: ${why}`);
}

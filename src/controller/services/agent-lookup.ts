// The agent that a request names.
import { type FieldViolation, LonglineError } from '../../core/errors.ts';
import { AGENT_ID } from '../../core/ids.ts';
import type { Store } from '../store/store.ts';
import { shown } from './shape.ts';

/** What is wrong with an agent id. */
export function agentIdViolations(agentId: string, field: string): readonly FieldViolation[] {
  if (AGENT_ID.test(agentId)) return [];
  return [{ field, description: `${shown(agentId)} must be 1 to 128 characters of [A-Za-z0-9._-]` }];
}

/** Throws `not_found` for an agent that isn't there, and `wrong_state` for one that will never come again. */
export async function requireAgent(store: Pick<Store, 'agents'>, agentId: string): Promise<void> {
  const agent = await store.agents.get(agentId);
  if (agent === undefined) throw new LonglineError('not_found', `no agent has id ${agentId}`);
  if (agent.revoked)
    throw new LonglineError('wrong_state', `agent ${agentId} was revoked; it can't be asked for anything`);
}

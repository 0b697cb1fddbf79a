// What every change of desired states has in common, whoever stores it with whatever else: bounds, digest, and who is told.
import { LonglineError } from '../../core/errors.ts';
import type { Bus } from '../bus/bus.ts';
import { agentTopic, desiredStatesTopic } from '../bus/topics.ts';
import type { DesiredStateUpdate } from '../store/desired-state.ts';
import { bodyDigest } from './state-body.ts';

/** Largest canonical body. Agents take messages of 16 MiB. */
const MAX_BODY_BYTES = 15 * 1024 * 1024;

/** How often a change is made anew because somebody else was quicker. */
export const MAX_ATTEMPTS = 32;

/** A next generation to store. Throws `limit` for a body that no message holds. */
export function nextGeneration(update: Omit<DesiredStateUpdate, 'digest'>): DesiredStateUpdate {
  const { agentId, body } = update;
  if (body.length <= MAX_BODY_BYTES) return { ...update, digest: bodyDigest(body) };
  const message = `what is wanted of agent ${agentId} takes ${body.length} bytes; at most ${MAX_BODY_BYTES} can be sent`;
  throw new LonglineError('limit', message, { retryable: false });
}

/** Why a change is given up after MAX_ATTEMPTS. */
export function tooManyChanges(agentId: string): LonglineError {
  return new LonglineError('unavailable', `what is wanted of agent ${agentId} changes too fast; try again`);
}

/** Tells whoever holds the agent's stream, and who waits for changes, that a generation is stored. */
export function announceState(bus: Bus, agentId: string, stateKind: number): void {
  bus.publish(agentTopic(agentId), { kind: 'desired_states' });
  bus.publish(desiredStatesTopic, { agentId, stateKind });
}

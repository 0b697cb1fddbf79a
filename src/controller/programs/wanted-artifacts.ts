// Which artifacts an agent may have: those that are wanted of it, were wanted until the last change, or that it finds by polling.
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import { PROGRAM_STATE } from '../states/program-state-body.ts';
import type { Store } from '../store/store.ts';
import type { PolledPrograms } from './polled-programs.ts';

const KIND = DesiredStateKind.PROGRAMS;

/** True if a desired state of the agent wants the artifact now, or did before it was last changed. */
export async function isWanted(
  { desiredStates }: Pick<Store, 'desiredStates'>,
  agentId: string,
  digest: string,
): Promise<boolean> {
  const stored = await desiredStates.get(agentId, KIND);
  if (stored === undefined) return false;
  const wanted = PROGRAM_STATE.decode(stored.body);
  if (wanted.programs.some(({ artifact }) => artifact === digest)) return true;
  // An agent that is a step behind is still busy with it.
  const undos = await desiredStates.undos(agentId, KIND, stored.generation - 1n);
  return (
    undos?.some((undo) => PROGRAM_STATE.decode(undo).programs.some(({ artifact }) => artifact === digest)) ?? false
  );
}

/** True if the agent finds a program with the artifact by polling. */
export async function isPolled(polled: PolledPrograms, agentId: string, digest: string): Promise<boolean> {
  return (await polled(agentId)).some(({ artifact }) => artifact === digest);
}

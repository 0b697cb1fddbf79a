// What agents find when they poll the registry: the programs of assignments that are delivered so.
import { fromBinary } from '@bufbuild/protobuf';
import { type ProgramSpec, ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import type { Store } from '../store/store.ts';

/** Programs that an agent is to poll, in the order of their names. */
export async function pollProgramsOf(store: Pick<Store, 'assignments'>, agentId: string): Promise<ProgramSpec[]> {
  const told = await store.assignments.ofAgent(agentId);
  return told.flatMap(({ delivery, spec }) => {
    return delivery === 'poll' && spec !== undefined ? [fromBinary(ProgramSpecSchema, spec)] : [];
  });
}

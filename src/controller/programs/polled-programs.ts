// What agents find when they poll the registry: programs of assignments that are delivered so.
import type { ProgramSpec } from '#gen/longline/v1/program_pb.js';

/** Specs that an agent is to find, in the order of their names. The name of each is also that of its assignment. */
export type PolledPrograms = (agentId: string) => Promise<readonly ProgramSpec[]>;

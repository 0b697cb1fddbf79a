// What a command asks for, by name, without reading all of it: the capabilities' actions are all one choice, so their first field says.
import type { DescMessage } from '@bufbuild/protobuf';
import { NetworkActionSchema } from '#gen/longline/v1/network_pb.js';
import { ProgramActionSchema } from '#gen/longline/v1/program_pb.js';
import { SessionActionSchema } from '#gen/longline/v1/session_pb.js';
import { JobActionSchema } from '#gen/longline/v1/signature_pb.js';
import { OTHER } from '../../core/metrics/metric.ts';

const ACTIONS: Readonly<Record<string, DescMessage>> = {
  jobs: JobActionSchema,
  sessions: SessionActionSchema,
  network: NetworkActionSchema,
  programs: ProgramActionSchema,
};

/** "run", "hibernate", …: the name of the field in the capability's action; "other" for what this version doesn't know. */
export function commandKind(capability: string, action: Uint8Array): string {
  const tag = action[0];
  // Numbers of fields above 15 take more than a byte, and no action has so many.
  if (tag === undefined || tag >= 0x80) return OTHER;
  return ACTIONS[capability]?.fields.find(({ number }) => number === tag >> 3)?.name ?? OTHER;
}

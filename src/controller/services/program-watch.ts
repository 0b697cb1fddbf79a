// Programs that match, then each change of them, of what their agents say, or of their figures, until the caller leaves.
import { create } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import {
  type Program,
  ProgramRefSchema,
  type WatchProgramsResponse,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import { programsTopic } from '../bus/topics.ts';
import { ItemWatch, type ShownItem } from './item-watch.ts';
import { agentsFrom, type CheckedFilter, meets } from './program-filter.ts';
import { nameOf, type ProgramViewerParts, programsOf } from './program-views.ts';
import type { ServiceDependencies } from './service-dependencies.ts';

type Change = Pick<WatchProgramsResponse, 'event'>;

/** Tells what matches now, and what changes. */
export async function* watchPrograms(
  parts: ServiceDependencies & ProgramViewerParts,
  filter: CheckedFilter,
  signal: AbortSignal,
): AsyncGenerator<Change, void, undefined> {
  const watch = new ItemWatch<Program>(parts, {
    stateKind: DesiredStateKind.PROGRAMS,
    topic: programsTopic,
    concerns: (agentId) => filter.agentId === '' || filter.agentId === agentId,
    agents: () => agentsFrom(parts.store, filter, ''),
    ofAgent: async (agentId) => {
      const programs = await programsOf(parts, agentId);
      return programs.filter((program) => meets(filter, program)).map(shownItem);
    },
  });
  for await (const event of watch.changes(signal)) {
    if (event.kind === 'there') yield { event: { case: 'program', value: event.view } };
    else yield { event: { case: 'removed', value: create(ProgramRefSchema, event) } };
  }
}

function shownItem(view: Program): ShownItem<Program> {
  const { applied, assignment, error, generation, removing, spec, statusTime, telemetry } = view;
  const measured = telemetry?.figures?.endTime;
  const times = [statusTime, measured].map((time) => time && timestampMs(time));
  const told = [generation, removing, applied, assignment, spec?.artifact, error?.message, telemetry?.state, ...times];
  return { name: nameOf(view), view, told: told.join() };
}

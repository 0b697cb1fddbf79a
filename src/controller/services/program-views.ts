// Programs as the API shows them: what is wanted of an agent beside what it says, those included that it has from elsewhere.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Program, ProgramSchema } from '#gen/longline/fleet/v1/program_service_pb.js';
import { DesiredStateKind, type StateReport } from '#gen/longline/link/v1/link_pb.js';
import {
  ProgramDesiredStateSchema,
  type ProgramSpec,
  ProgramSpecSchema,
  ProgramState,
  type ProgramStatus,
} from '#gen/longline/v1/program_pb.js';
import type { Clock } from '../../core/clock.ts';
import type { PolledPrograms } from '../programs/polled-programs.ts';
import { isAskedHere, isToldOf, programsIn } from '../programs/program-report.ts';
import { type Refusal, readReport, standingAt } from '../states/standing.ts';
import type { ProgramRecord } from '../store/program.ts';
import type { Store } from '../store/store.ts';
import type { ProgramFiguresCache } from './program-figures.ts';

const KIND = DesiredStateKind.PROGRAMS;

/** What is known of the programs of one agent. */
interface AgentPrograms {
  readonly specs: ReadonlyMap<string, ProgramSpec>;
  readonly refusal: Refusal | undefined;
  readonly report: StateReport | undefined;
  readonly reportedAtMs: number;
}

/** What programs are shown with. */
export interface ProgramViewerParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly figures: ProgramFiguresCache;
  readonly polled: PolledPrograms;
}

/** Where a program is, as far as is known. */
export function stateOf({ status, telemetry }: Program): ProgramState {
  return status?.state ?? telemetry?.state ?? ProgramState.UNSPECIFIED;
}

/** The programs of one agent, in the order of their names. */
export async function programsOf(parts: ProgramViewerParts, agentId: string): Promise<readonly Program[]> {
  // First, so that what is read after it is at least as new; a spec that is gone by then is of a program that was changed since.
  const records = await parts.store.programs.ofAgent(agentId);
  const known = await read(parts.store, agentId);
  const own = records.flatMap((record) => view(parts, record, known) ?? []);
  const names = new Set(records.map(({ name }) => name));
  const others = await fromElsewhere(parts, agentId, names, known);
  return [...own, ...others].sort((one, other) => (nameOf(one) < nameOf(other) ? -1 : 1));
}

/** Name of a program as it is shown. */
export function nameOf({ spec, status }: Program): string {
  return spec?.name ?? status?.name ?? '';
}

async function read(store: Store, agentId: string): Promise<AgentPrograms> {
  const wanted = await store.desiredStates.get(agentId, KIND);
  const told = await store.stateReports.get(agentId, KIND);
  const { programs } = wanted === undefined ? { programs: [] } : fromBinary(ProgramDesiredStateSchema, wanted.body);
  return {
    specs: new Map(programs.map((spec) => [spec.name, spec])),
    refusal: wanted?.refusal,
    report: told && readReport(told.report),
    reportedAtMs: told?.storedAtMs ?? 0,
  };
}

function view(parts: ProgramViewerParts, record: ProgramRecord, known: AgentPrograms): Program | undefined {
  const { agentId, artifact, assignment, generation, name, removing } = record;
  const spec = removing ? create(ProgramSpecSchema, { name, artifact }) : known.specs.get(name);
  if (spec === undefined) return undefined;
  const { applied, error } = standingAt(generation, known.report, known.refusal);
  const status = programsIn(known.report).find((one) => one.name === name && isAskedHere(one));
  return create(ProgramSchema, {
    agentId,
    spec,
    assignment,
    generation,
    applied,
    removing,
    updateTime: timestampFromMs(record.updatedAtMs),
    ...(error && { error }),
    ...said(parts, agentId, name, status, known.reportedAtMs),
  });
}

/** What the agent has without being pushed it. Of what it polls for it is known here what that is. */
async function fromElsewhere(
  parts: ProgramViewerParts,
  agentId: string,
  taken: ReadonlySet<string>,
  { report, reportedAtMs }: AgentPrograms,
): Promise<readonly Program[]> {
  const statuses = new Map(programsIn(report).map((status) => [status.name, status]));
  const polled = new Map((await parts.polled(agentId)).map((spec) => [spec.name, spec]));
  const names = new Set([...polled.keys(), ...statuses.keys()]);
  return [...names]
    .filter((name) => !taken.has(name))
    .map((name) => {
      const spec = polled.get(name);
      const status = statuses.get(name);
      return create(ProgramSchema, {
        agentId,
        ...(spec && { spec, assignment: name, applied: isPolled(spec, status) }),
        ...said(parts, agentId, name, status, reportedAtMs),
      });
    });
}

/** True if the agent has found what it is to poll, and speaks of that. */
function isPolled(spec: ProgramSpec, status: ProgramStatus | undefined): boolean {
  if (status?.source !== 'registry') return false;
  return isToldOf(status, spec.artifact, toBinary(ProgramSpecSchema, spec));
}

function said(
  { clock, figures }: ProgramViewerParts,
  agentId: string,
  name: string,
  status: ProgramStatus | undefined,
  reportedAtMs: number,
) {
  const telemetry = figures.latest(agentId, name, clock.now());
  return {
    ...(status && { status, statusTime: timestampFromMs(reportedAtMs) }),
    ...(telemetry && { telemetry }),
  };
}

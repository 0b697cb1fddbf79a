// A program with its figures in words.
import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { Program } from '#gen/longline/fleet/v1/program_service_pb.js';
import type { ProgramFigures, ProgramRevision, ProgramStatus } from '#gen/longline/v1/program_pb.js';
import { ageOf } from '../age.ts';
import type { CliIo } from '../io.ts';
import { plainText, type TableColumn } from '../table.ts';
import { programName, programStateText, triggerName } from './views.ts';

/** As people read it. */
export function describeProgram(io: CliIo, program: Program, nowMs: number): string {
  const { agentId, assignment, spec, status, statusTime, telemetry } = program;
  const row = (label: string, text: string) => `  ${label.padEnd(12)} ${plainText(text)}`;
  const rollback = status?.lastRollback;
  return [
    `${io.paint('bold', plainText(`program ${programName(program)} of ${agentId}`))}  ${paintState(io, program)}`,
    row('told', status === undefined ? 'nothing yet' : `${ageOf(statusTime, nowMs)} by ${agentId}`),
    ...(assignment === '' ? [] : [row('assignment', assignment)]),
    row('artifact', spec?.artifact ?? status?.wantedArtifact ?? '-'),
    ...(status?.quarantined ? [row('quarantined', 'yes, on this host')] : []),
    row('runs', revisionText(status?.current)),
    row('before', revisionText(status?.previous)),
    ...(status?.links ?? []).map((link) =>
      row('attached', `${link.function} to ${link.attach}${link.atomic ? '' : ' (upgrades overlap)'}`),
    ),
    ...Object.entries(spec?.parameters ?? {}).map(([name, value]) => row('parameter', `${name}=${value}`)),
    row('until', untilText(status)),
    ...(telemetry?.figures === undefined ? [] : figureRows(telemetry.figures).map(([label, text]) => row(label, text))),
    ...(rollback === undefined
      ? []
      : [row('rolled back', `${ageOf(rollback.time, nowMs)}: ${triggerName(rollback.trigger)}: ${rollback.reason}`)]),
    ...(status?.problems ?? []).map(
      ({ error, field }) => `  ${io.paint('red', 'problem')}: ${plainText(`${field}: ${error?.message ?? ''}`)}`,
    ),
  ].join('\n');
}

/** Only what is loaded has a time that runs. */
function untilText(status: ProgramStatus | undefined): string {
  if (status?.expireTime !== undefined) return timestampDate(status.expireTime).toISOString();
  return status?.current === undefined ? '-' : 'for ever';
}

function revisionText(revision: ProgramRevision | undefined): string {
  if (revision === undefined) return '-';
  const { artifactName, number, signers, version } = revision;
  return `${artifactName} ${version}, revision ${number}, ${signers.length === 0 ? 'unsigned' : `signed by ${signers.join(', ')}`}`;
}

function figureRows(figures: ProgramFigures): readonly (readonly [string, string])[] {
  const { cpuPercent, errors, latencyMs, memoryKb, packets, runs, violations } = figures;
  return [
    ['packets', `${packets}, ${violations} violations, ${errors} errors`],
    ['processor', `${cpuPercent.toFixed(2)} %, ${latencyMs.toFixed(4)} ms a call, ${runs} calls`],
    ['memory', `${memoryKb} KiB`],
  ];
}

function paintState(io: CliIo, program: Program): string {
  const state = programStateText(program);
  const bad = ['failed', 'refused', 'rolling_back'].includes(state);
  return io.paint(state === 'active' ? 'green' : bad ? 'red' : 'yellow', state);
}

/** One row for each program. */
export function programColumns(nowMs: number): readonly TableColumn<Program>[] {
  const figure = (pick: (figures: ProgramFigures) => string) => (program: Program) =>
    program.telemetry?.figures === undefined ? '-' : pick(program.telemetry.figures);
  return [
    { heading: 'agent', value: ({ agentId }) => agentId },
    { heading: 'program', value: programName },
    { heading: 'state', value: programStateText },
    { heading: 'version', value: ({ status }) => status?.current?.version || '-' },
    { heading: 'attached', value: ({ status }) => status?.links.map(({ attach }) => attach).join(' ') || '-' },
    { heading: 'packets', align: 'right', value: figure(({ packets }) => String(packets)) },
    { heading: 'violations', align: 'right', value: figure(({ violations }) => String(violations)) },
    { heading: 'errors', align: 'right', value: figure(({ errors }) => String(errors)) },
    { heading: 'cpu %', align: 'right', value: figure(({ cpuPercent }) => cpuPercent.toFixed(2)) },
    { heading: 'changed', value: ({ updateTime, status }) => ageOf(status?.stateTime ?? updateTime, nowMs) },
  ];
}

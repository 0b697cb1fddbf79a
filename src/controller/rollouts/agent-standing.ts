// How an agent is with what it was told of an assignment, by what it last reported. Pure.
import { fromBinary } from '@bufbuild/protobuf';
import { type StateReport, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorSchema } from '#gen/longline/v1/error_pb.js';
import { ProgramState, type ProgramStatus } from '#gen/longline/v1/program_pb.js';
import { isAskedHere } from '../programs/program-report.ts';
import type { AssignedAgentRecord } from '../store/rollout.ts';
import { sameWanted, toldOf, type Wanted } from './target.ts';

/** How an agent is with what is wanted of it. */
export type Standing =
  /** It has not said yet. */
  | { readonly kind: 'pending' }
  /** It has it. */
  | { readonly kind: 'current' }
  /** It can't have it, or has given it up. */
  | { readonly kind: 'failed'; readonly reason: string };

const PENDING: Standing = { kind: 'pending' };
const CURRENT: Standing = { kind: 'current' };

const failed = (reason: string): Standing => ({ kind: 'failed', reason });

/** The last rollback of a program that an agent told of; empty for none. */
export function knownRollback(name: string, record: AssignedAgentRecord | undefined): string {
  if (record?.report === undefined) return '';
  const report = fromBinary(StateReportSchema, record.report.bytes);
  const told = statusIn(report, name, false)?.lastRollback ?? statusIn(report, name, true)?.lastRollback;
  return told?.id ?? '';
}

/** What it said of a program: from the controller, or from its registry. */
function statusIn(report: StateReport | undefined, name: string, polled: boolean): ProgramStatus | undefined {
  if (report?.detail.case !== 'programs') return undefined;
  const { programs } = report.detail.value;
  return programs.find((one) => {
    return one.name === name && (polled ? one.source === 'registry' : isAskedHere(one));
  });
}

/**
 * Compares what is wanted of an agent now with what it was told and said. `knownRollback` is the one that was known when it was
 * told a change: another one is of that change. Undefined for what it had before, which isn't judged anew.
 */
export function standingOf(
  name: string,
  record: AssignedAgentRecord,
  wanted: Wanted | undefined,
  knownRollback: string | undefined,
): Standing {
  // What it says of something else is no answer.
  if (!sameWanted(wanted, toldOf(record.delivery))) return PENDING;
  const report = record.report && fromBinary(StateReportSchema, record.report.bytes);
  if (wanted === undefined) return goneFrom(name, record, report) ? CURRENT : PENDING;
  const polled = wanted.delivery === 'poll';
  if (!polled) {
    const answer = answerTo(name, record, report);
    if (answer !== undefined) return answer;
  } else if (record.program !== undefined) return PENDING;
  return ofStatus(statusIn(report, name, polled), wanted, knownRollback);
}

function goneFrom(name: string, record: AssignedAgentRecord, report: StateReport | undefined): boolean {
  if (record.program !== undefined) return false;
  return record.delivery?.delivery !== 'poll' || statusIn(report, name, true) === undefined;
}

/** What there is to say without its status; undefined if that is the answer. */
function answerTo(
  name: string,
  { program, refusal }: AssignedAgentRecord,
  report: StateReport | undefined,
): Standing | undefined {
  if (program === undefined || program.removing) return PENDING;
  const applied = report !== undefined && report.generation >= program.generation;
  // What was applied stays when something later is refused, which was asked of another program.
  if (refusal !== undefined && refusal.generation >= program.generation && !applied) {
    return failed(`it refused what is wanted of it: ${fromBinary(ErrorSchema, refusal.error).message}`);
  }
  if (!applied) return PENDING;
  const item = report.items.find((one) => one.item === name);
  return item && failed(item.error?.message || 'it could not bring the program about');
}

function ofStatus(status: ProgramStatus | undefined, { spec }: Wanted, knownRollback: string | undefined): Standing {
  const { artifact } = spec;
  if (status === undefined || status.wantedArtifact !== artifact) return PENDING;
  const { current, lastRollback, problems, quarantined, state } = status;
  const judged = knownRollback !== undefined;
  const wentBack = judged && lastRollback !== undefined && lastRollback.id !== knownRollback;
  if (wentBack && lastRollback.from?.artifact === artifact && lastRollback.error === undefined) {
    return failed(`it was rolled back: ${lastRollback.reason || 'no reason is told'}`);
  }
  const runs = state === ProgramState.ACTIVE && current?.artifact === artifact;
  const why = problems[0]?.error?.message;
  if (quarantined && (judged || !runs)) return failed(`the artifact is quarantined there${why ? `: ${why}` : ''}`);
  // One whose time is over is as it was asked for.
  if (runs || state === ProgramState.EXPIRED) return CURRENT;
  return state === ProgramState.FAILED ? failed(why || 'it could not be brought about') : PENDING;
}

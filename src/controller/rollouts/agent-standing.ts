// How an agent is with what it was told of an assignment, by what it last reported. Pure.
import { fromBinary } from '@bufbuild/protobuf';
import { type StateReport, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorSchema, type Error as WireError } from '#gen/longline/v1/error_pb.js';
import { ProgramState, type ProgramStatus } from '#gen/longline/v1/program_pb.js';
import { isAskedHere, isToldOf } from '../programs/program-report.ts';
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

const read = new WeakMap<Uint8Array, StateReport>();

/** What an agent last reported. Each report is read once: there are as many as agents, and several look at each. */
function saidBy({ report }: AssignedAgentRecord): StateReport | undefined {
  if (report === undefined) return undefined;
  const known = read.get(report.bytes) ?? fromBinary(StateReportSchema, report.bytes);
  read.set(report.bytes, known);
  return known;
}

/** The last rollback of a program that an agent told of; empty for none. */
export function knownRollback(name: string, record: AssignedAgentRecord | undefined): string {
  const report = record && saidBy(record);
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
  const report = saidBy(record);
  if (wanted === undefined) return goneFrom(name, record, report) ? CURRENT : PENDING;
  const { program } = record;
  if (wanted.delivery === 'poll') {
    return program === undefined ? ofStatus(statusIn(report, name, true), undefined, wanted, knownRollback) : PENDING;
  }
  if (program === undefined || program.removing) return PENDING;
  const applied = report !== undefined && report.generation >= program.generation;
  const { refusal } = record;
  // What was applied stays when something later is refused, which was asked of another program.
  if (refusal !== undefined && refusal.generation >= program.generation && !applied) {
    return failed(`it refused what is wanted of it: ${fromBinary(ErrorSchema, refusal.error).message}`);
  }
  if (!applied) return PENDING;
  const item = report.items.find((one) => one.item === name);
  return ofStatus(statusIn(report, name, false), item?.error, wanted, knownRollback);
}

function goneFrom(name: string, record: AssignedAgentRecord, report: StateReport | undefined): boolean {
  if (record.program !== undefined) return false;
  return record.delivery?.delivery !== 'poll' || statusIn(report, name, true) === undefined;
}

/** `refusal` is why it could not have it, where nothing else is told of it. */
function ofStatus(
  status: ProgramStatus | undefined,
  refusal: WireError | undefined,
  wanted: Wanted,
  knownRollback: string | undefined,
): Standing {
  if (status === undefined || !isToldOf(status, wanted.spec.artifact, wanted.bytes))
    return refusal === undefined ? PENDING : ofError(refusal);
  const { artifact } = wanted.spec;
  const { current, lastRollback, problems, quarantined, state } = status;
  const judged = knownRollback !== undefined;
  const wentBack = judged && lastRollback !== undefined && lastRollback.id !== knownRollback;
  if (wentBack && lastRollback.from?.artifact === artifact && lastRollback.error === undefined) {
    return failed(`it was rolled back: ${lastRollback.reason || 'no reason is told'}`);
  }
  const runs = state === ProgramState.ACTIVE && current?.artifact === artifact;
  // One whose time is over is as it was asked for.
  if ((runs && problems.length === 0 && !quarantined) || state === ProgramState.EXPIRED) return CURRENT;
  if (runs && quarantined && !judged) return CURRENT;
  const worst = problems.find(({ error }) => error?.retryable === false) ?? problems[0];
  if (quarantined) return failed(worst?.error?.message || 'the artifact is quarantined there');
  if (worst?.error !== undefined) return ofError(worst.error);
  return state === ProgramState.FAILED ? failed('it could not be brought about') : PENDING;
}

/** What may pass by itself has the time that there is. */
function ofError({ message, retryable }: WireError): Standing {
  return retryable ? PENDING : failed(message || 'it could not be brought about');
}

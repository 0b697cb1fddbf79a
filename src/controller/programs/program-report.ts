// What an agent last said of its programs, and the rollbacks that it told of. Pure.
import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { StateReport } from '#gen/longline/link/v1/link_pb.js';
import { type ProgramRollback, ProgramRollbackSchema, type ProgramStatus } from '#gen/longline/v1/program_pb.js';
import type { RollbackRecord } from '../store/program.ts';

/** Rollbacks of one agent that are kept. */
export const KEPT_ROLLBACKS = 1000;

const MAX_ID = 64;
const MAX_NAME = 63;
const MAX_REASON = 1024;
const MAX_BYTES = 16 * 1024;

/** Programs that a report is about. */
export function programsIn(report: StateReport | undefined): readonly ProgramStatus[] {
  return report?.detail.case === 'programs' ? report.detail.value.programs : [];
}

/** True for a program that the controller asked for. */
export function isAskedHere({ source }: ProgramStatus): boolean {
  return source !== 'registry' && source !== 'local';
}

/** True if what is told is told of this spec, which `bytes` holds serialised. Some agents name the artifact alone. */
export function isToldOf(
  { wantedArtifact, wantedSha256 }: ProgramStatus,
  artifact: string,
  bytes: Uint8Array,
): boolean {
  if (wantedArtifact !== artifact) return false;
  return wantedSha256.length === 0 || Buffer.compare(wantedSha256, createHash('sha256').update(bytes).digest()) === 0;
}

/** The last rollback of each program that a report is about. */
export function rollbacksIn(report: StateReport, agentId: string, nowMs: number): readonly RollbackRecord[] {
  return programsIn(report).flatMap(({ lastRollback }) => {
    const record = lastRollback && rollbackRecord(lastRollback, agentId, nowMs);
    return record === undefined ? [] : [record];
  });
}

/** A rollback as it is kept: an agent may say what it wants, but not how much. Undefined without an id or a program. */
export function rollbackRecord(told: ProgramRollback, agentId: string, nowMs: number): RollbackRecord | undefined {
  const { id, program, trigger, time } = told;
  if (id === '' || id.length > MAX_ID || program === '' || program.length > MAX_NAME) return undefined;
  const reason = told.reason.slice(0, MAX_REASON).toWellFormed();
  const whole = toBinary(ProgramRollbackSchema, { ...told, reason });
  const rollback =
    whole.length <= MAX_BYTES
      ? whole
      : toBinary(
          ProgramRollbackSchema,
          create(ProgramRollbackSchema, { id, program, trigger, reason, ...(time && { time }) }),
        );
  // A clock that is ahead must not keep its agent's rollbacks above all others for ever.
  const atMs = Math.min(time === undefined ? nowMs : Math.max(0, timestampMs(time)), nowMs);
  return { agentId, id, program, atMs: Math.floor(Number.isFinite(atMs) ? atMs : nowMs), rollback };
}

// The only file of the capability that knows generated code: longline.v1 messages to and from domain values.
import { create, fromBinary, fromJsonString, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Error as ErrorMessage, ErrorReason, ErrorSchema } from '#gen/longline/v1/error_pb.js';
import {
  ProgramActionSchema,
  type ProgramDesiredState,
  ProgramDesiredStateSchema,
  type ProgramFigures as ProgramFiguresMessage,
  ProgramFiguresSchema,
  type ProgramMetadata,
  ProgramMetadataSchema,
  ProgramResultSchema,
  type ProgramRevision,
  ProgramRevisionSchema,
  type ProgramRollback,
  ProgramRollbackSchema,
  type ProgramSpec as ProgramSpecMessage,
  ProgramSpecSchema,
  ProgramStateDetailSchema,
  type ProgramStatus,
  ProgramStatusSchema,
  ProgramTelemetrySchema,
  ReleasedQuarantineSchema,
} from '#gen/longline/v1/program_pb.js';
import { LonglineError, type Reason } from '../../core/errors.ts';
import type { ProgramSpecMessage as ProgramSpecInput } from '../../core/programs/program-spec.ts';
import { PROGRAM_STATES, ROLLBACK_TRIGGERS } from '../../core/programs/program-state.ts';
import type { ProgramFigures } from './figures.ts';
import type { LifeKind } from './lifecycle.ts';
import type { RememberedRevision } from './revision-record.ts';
import type { RollbackRecord } from './rollback.ts';
import type { Problem, ProgramView, RevisionView } from './status.ts';

export type { ProgramDesiredState, ProgramSpecInput, ProgramSpecMessage, ProgramStatus };

/** What a command asks for. */
export type ProgramRequest =
  | {
      readonly kind: 'roll_back';
      readonly name: string;
      readonly reason: string;
      /** Undefined for whichever runs. */
      readonly artifact: string | undefined;
    }
  /** `artifact` undefined for all. */
  | { readonly kind: 'release_quarantine'; readonly artifact: string | undefined };

/** The message of a serialised longline.v1.ProgramDesiredState. Throws `invalid` if it isn't one. */
export function decodeDesiredState(body: Uint8Array): ProgramDesiredState {
  try {
    return fromBinary(ProgramDesiredStateSchema, body, { readUnknownFields: false });
  } catch (cause) {
    throw new LonglineError('invalid', 'the body is not a longline.v1.ProgramDesiredState', { cause });
  }
}

/** A full state, serialised as it is digested and kept. */
export function encodeDesiredState(programs: readonly ProgramSpecMessage[], removed: readonly string[] = []) {
  const state = { programs: [...programs], removedPrograms: [...removed] };
  return toBinary(ProgramDesiredStateSchema, create(ProgramDesiredStateSchema, state));
}

/** A spec message from its parts. */
export function specMessage(spec: Partial<ProgramSpecInput>): ProgramSpecMessage {
  const { attach, parameters, ttl, thresholds, ...rest } = spec;
  return create(ProgramSpecSchema, {
    ...rest,
    attach: [...(attach ?? [])],
    parameters: { ...parameters },
    ...(ttl !== undefined && { ttl: { seconds: ttl.seconds, nanos: ttl.nanos } }),
    ...(thresholds !== undefined && { thresholds: definedOf(thresholds) }),
  });
}

export function encodeSpec(spec: ProgramSpecMessage): Uint8Array {
  return toBinary(ProgramSpecSchema, spec);
}

/** The spec of a serialised longline.v1.ProgramSpec. Throws `invalid` if it isn't one. */
export function decodeSpec(bytes: Uint8Array): ProgramSpecMessage {
  try {
    return fromBinary(ProgramSpecSchema, bytes, { readUnknownFields: false });
  } catch (cause) {
    throw new LonglineError('invalid', 'these bytes are not a longline.v1.ProgramSpec', { cause });
  }
}

/** The longline.v1.ProgramMetadata of a file in ProtoJSON. Throws `invalid` if it isn't one, or says what nobody knows here. */
export function decodeMetadata(bytes: Uint8Array): ProgramMetadata {
  try {
    return fromJsonString(ProgramMetadataSchema, new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    const message = `metadata.json is not a longline.v1.ProgramMetadata: ${(cause as Error).message}`;
    throw new LonglineError('invalid', message, { cause });
  }
}

/** What a serialised longline.v1.ProgramAction asks for. Throws `invalid` or `unsupported` if it isn't a command. */
export function decodeAction(bytes: Uint8Array): ProgramRequest {
  const { action } = decodedAction(bytes);
  switch (action.case) {
    case 'rollBack': {
      const { name, reason, artifact } = action.value;
      return { kind: 'roll_back', name, reason, artifact: artifact === '' ? undefined : artifact };
    }
    case 'releaseQuarantine': {
      const { artifact } = action.value;
      return { kind: 'release_quarantine', artifact: artifact === '' ? undefined : artifact };
    }
    case 'permit':
      throw new LonglineError('unsupported', 'a permit is no command: it travels in the statement of a desired state');
    default:
      throw new LonglineError(
        'unsupported',
        'the action is none that this agent knows; those are roll_back and release_quarantine',
      );
  }
}

/** A serialised longline.v1.ProgramAction: for tests and tools. */
export function encodeAction(action: MessageInitShape<typeof ProgramActionSchema>): Uint8Array {
  return toBinary(ProgramActionSchema, create(ProgramActionSchema, action));
}

/** A serialised longline.v1.ProgramResult of a rollback. */
export function encodeRolledBack(record: RollbackRecord): Uint8Array {
  const result = { case: 'rollback', value: rollbackMessage(record) } as const;
  return toBinary(ProgramResultSchema, create(ProgramResultSchema, { result }));
}

/** A serialised longline.v1.ProgramResult of a release. */
export function encodeReleased(artifacts: readonly string[]): Uint8Array {
  const result = { case: 'released', value: create(ReleasedQuarantineSchema, { artifacts: [...artifacts] }) } as const;
  return toBinary(ProgramResultSchema, create(ProgramResultSchema, { result }));
}

/** Decodes what encodeRolledBack and encodeReleased made: for tests and tools. */
export function decodeResult(detail: Uint8Array) {
  return fromBinary(ProgramResultSchema, detail);
}

/** A program as it is reported. */
export function statusMessage(view: ProgramView): ProgramStatus {
  const { current, previous, expiresAtMs, lastRollback } = view;
  return create(ProgramStatusSchema, {
    name: view.name,
    source: view.source,
    state: stateNumber(view.life.kind),
    wantedArtifact: view.wantedArtifact,
    wantedSha256: Buffer.from(view.wantedHash, 'hex'),
    quarantined: view.quarantined,
    problems: view.problems.map(problemMessage),
    links: view.links.map((link) => ({ ...link })),
    stateTime: timeOf(view.lifeAtMs),
    ...(current !== undefined && { current: revisionMessage(current) }),
    ...(previous !== undefined && { previous: revisionMessage(previous) }),
    ...(expiresAtMs !== undefined && { expireTime: timeOf(expiresAtMs) }),
    ...(lastRollback !== undefined && { lastRollback: rollbackMessage(lastRollback) }),
  });
}

/** A rollback as it is told. */
export function rollbackMessage(record: RollbackRecord): ProgramRollback {
  const { from, to, figures, error } = record;
  return create(ProgramRollbackSchema, {
    id: record.id,
    program: record.program,
    from: revisionMessage(from),
    trigger: ROLLBACK_TRIGGERS.indexOf(record.trigger) + 1,
    threshold: record.threshold,
    value: record.value,
    reason: record.reason,
    requestedBy: record.requestedBy,
    time: timeOf(record.atMs),
    ...(to !== undefined && { to: revisionMessage(to) }),
    ...(figures !== undefined && { figures: figuresMessage(figures) }),
    ...(error !== undefined && {
      error: create(ErrorSchema, { reason: reasonNumber(error.reason), message: error.message }),
    }),
  });
}

/** A serialised longline.v1.ProgramStateDetail. */
export function encodeStateDetail(views: readonly ProgramView[]): Uint8Array {
  return toBinary(ProgramStateDetailSchema, create(ProgramStateDetailSchema, { programs: views.map(statusMessage) }));
}

/** Decodes what encodeStateDetail made: for tests and tools. */
export function decodeStateDetail(detail: Uint8Array): readonly ProgramStatus[] {
  return fromBinary(ProgramStateDetailSchema, detail).programs;
}

/** A serialised longline.v1.ProgramTelemetry. */
export function encodeTelemetry(view: ProgramView, revision: RememberedRevision, figures: ProgramFigures): Uint8Array {
  const telemetry = {
    name: view.name,
    revision: revisionMessage(revision),
    state: stateNumber(view.life.kind),
    figures: figuresMessage(figures),
  };
  return toBinary(ProgramTelemetrySchema, create(ProgramTelemetrySchema, telemetry));
}

function decodedAction(bytes: Uint8Array) {
  try {
    return fromBinary(ProgramActionSchema, bytes);
  } catch (cause) {
    throw new LonglineError('invalid', 'the action is not a longline.v1.ProgramAction', { cause });
  }
}

function revisionMessage(revision: RememberedRevision | RevisionView): ProgramRevision {
  const { activeAtMs } = revision;
  return create(ProgramRevisionSchema, {
    number: BigInt(revision.number),
    artifact: revision.artifact,
    artifactName: revision.artifactName,
    version: revision.version,
    signers: [...revision.signers],
    loadTime: timeOf(revision.loadedAtMs),
    programIds: 'programIds' in revision ? { ...revision.programIds } : {},
    ...(activeAtMs !== undefined && { activeTime: timeOf(activeAtMs) }),
  });
}

/** Figures as they are told. */
export function figuresMessage(figures: ProgramFigures): ProgramFiguresMessage {
  return create(ProgramFiguresSchema, {
    startTime: timeOf(figures.startMs),
    endTime: timeOf(figures.endMs),
    runs: figures.runs,
    cpuPercent: figures.cpuPercent,
    latencyMs: figures.latencyMs,
    memoryKb: BigInt(figures.memoryKb),
    packets: figures.packets,
    violations: figures.violations,
    errors: figures.errors,
    packetsDelta: figures.packetsDelta ?? 0n,
    violationsDelta: figures.violationsDelta ?? 0n,
    errorsDelta: figures.errorsDelta ?? 0n,
    others: { ...figures.others },
    events: BigInt(figures.events),
    droppedEvents: BigInt(figures.droppedEvents),
    countedTime: durationFromMs(Math.floor(figures.countedMs)),
  });
}

function problemMessage({ field, error, verifierLog, retryAtMs }: Problem) {
  return {
    field,
    error: errorMessage(error),
    verifierLog,
    ...(retryAtMs !== undefined && { retryTime: timeOf(retryAtMs) }),
  };
}

function errorMessage(error: LonglineError): ErrorMessage {
  return create(ErrorSchema, {
    reason: reasonNumber(error.reason),
    message: error.message,
    retryable: error.retryable,
    violations: error.violations.map(({ field, description }) => ({ field, description })),
    rule: error.rule ?? '',
    ...(error.retryAfterMs !== undefined && { retryAfter: durationFromMs(error.retryAfterMs) }),
  });
}

function reasonNumber(reason: Reason): ErrorReason {
  return ErrorReason[reason.toUpperCase() as keyof typeof ErrorReason];
}

/** Whole milliseconds: not every clock counts in these. */
function timeOf(ms: number) {
  return timestampFromMs(Math.floor(ms));
}

function stateNumber(kind: LifeKind): number {
  return PROGRAM_STATES.indexOf(kind) + 1;
}

function definedOf<T extends object>(values: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const defined = Object.entries(values).filter(([, value]) => value !== undefined);
  return Object.fromEntries(defined) as { [K in keyof T]: Exclude<T[K], undefined> };
}

// Desired states of kind PROGRAMS: order, deltas and bytes as longline.v1.ProgramDesiredState promises them.
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import {
  type ProgramDesiredState,
  ProgramDesiredStateSchema,
  type ProgramSpec,
  ProgramSpecSchema,
} from '#gen/longline/v1/program_pb.js';
import { ActionSchema } from '#gen/longline/v1/signature_pb.js';
import { applyProgramDelta, canonicalPrograms, diffPrograms } from '../../core/programs/program-delta.ts';
import type { StateBody } from './state-body.ts';

function bytesOf<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): Uint8Array {
  return toBinary(schema, message, { writeUnknownFields: false });
}

/** A spec, serialised as it is in a full state. */
export function programSpecBytes(spec: ProgramSpec): Uint8Array {
  const [canonical = spec] = canonicalPrograms([spec]);
  return bytesOf(ProgramSpecSchema, canonical);
}

function same(one: ProgramSpec, other: ProgramSpec): boolean {
  return Buffer.compare(bytesOf(ProgramSpecSchema, one), bytesOf(ProgramSpecSchema, other)) === 0;
}

function fullState(programs: readonly ProgramSpec[]): ProgramDesiredState {
  return create(ProgramDesiredStateSchema, { programs: [...programs] });
}

/** Programs of one agent. */
export const PROGRAM_STATE: StateBody<ProgramDesiredState> = {
  kind: DesiredStateKind.PROGRAMS,
  empty: () => create(ProgramDesiredStateSchema),
  encode: ({ programs }) => bytesOf(ProgramDesiredStateSchema, fullState(canonicalPrograms(programs))),
  decode: (body) => fromBinary(ProgramDesiredStateSchema, body),
  diff: (from, to) => {
    const { programs, removedPrograms } = diffPrograms<ProgramSpec>(from.programs, to.programs, same);
    return create(ProgramDesiredStateSchema, { programs: [...programs], removedPrograms: [...removedPrograms] });
  },
  apply: (base, delta) => fullState(applyProgramDelta<ProgramSpec>(base.programs, delta)),
  encodeDelta: (delta) => bytesOf(ProgramDesiredStateSchema, delta),
  field: (body) => ({ case: 'programs', value: body }),
  permit: (permit) =>
    create(ActionSchema, { action: { case: 'program', value: { action: { case: 'permit', value: permit } } } }),
};

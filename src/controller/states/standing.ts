// How far an agent is with something that is wanted of it, from what it last reported and refused of that kind of state. Pure.
import { fromBinary } from '@bufbuild/protobuf';
import { type StateReport, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason, ErrorSchema, type Error as WireError } from '#gen/longline/v1/error_pb.js';

/** A generation that an agent refused, with its serialised longline.v1.Error. */
export interface Refusal {
  readonly generation: bigint;
  readonly error: Uint8Array;
}

/** How far an agent is with one item. */
export interface Standing {
  /** It applied what was last wanted of this item, wholly or as far as its report says. */
  readonly applied: boolean;
  /** Why it didn't. */
  readonly error: WireError | undefined;
}

/** Latest report of an agent on one kind of state. */
export function readReport(bytes: Uint8Array): StateReport {
  return fromBinary(StateReportSchema, bytes);
}

/** Compares the generation that last changed an item with what was said. */
export function standingAt(
  generation: bigint,
  report: Pick<StateReport, 'generation'> | undefined,
  refusal: Refusal | undefined,
): Standing {
  const applied = report !== undefined && report.generation >= generation;
  const refused = refusal !== undefined && refusal.generation >= generation;
  const error = refused ? fromBinary(ErrorSchema, refusal.error) : undefined;
  // What was applied stays when something later is refused, which was asked of another item.
  const stays = applied && refused && refusal.generation > report.generation && !isOfAll(error!);
  return stays || error === undefined ? { applied, error: undefined } : { applied: false, error };
}

/** Items of this kind can't be had there at all. */
function isOfAll({ reason }: WireError): boolean {
  return reason === ErrorReason.UNSUPPORTED || reason === ErrorReason.UNAVAILABLE;
}

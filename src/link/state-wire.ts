// Desired states and reports of them between the domain values of core and the messages of the link. Pure.
import { createHash } from 'node:crypto';
import { create, type DescMessage, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type AgentMessage,
  AgentMessageSchema,
  type ControllerMessage,
  ControllerMessageSchema,
  type DesiredState,
  DesiredStateKind,
  type DesiredStateRef,
  DesiredStateRefSchema,
  type StateReport,
  StateReportSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { NetworkStateDetailSchema } from '#gen/longline/v1/network_pb.js';
import { ProgramStateDetailSchema } from '#gen/longline/v1/program_pb.js';
import { WorkloadStateDetailSchema } from '#gen/longline/v1/workload_pb.js';
import type { StateItemError, StateKind, StateObservation, StateRef } from '../core/desired-state.ts';
import { invalid, type LonglineError } from '../core/errors.ts';
import { wireError } from './wire.ts';
import { fieldsOf } from './wire-fields.ts';

/** The slot of a kind in DesiredState and StateReport has the kind's name. */
const KINDS: Readonly<Record<StateKind, { readonly kind: DesiredStateKind; readonly detail: DescMessage }>> = {
  network: { kind: DesiredStateKind.NETWORK, detail: NetworkStateDetailSchema },
  programs: { kind: DesiredStateKind.PROGRAMS, detail: ProgramStateDetailSchema },
  workloads: { kind: DesiredStateKind.WORKLOADS, detail: WorkloadStateDetailSchema },
};

/** More items of a report aren't told one by one: it has to fit into a message. */
const MOST_ITEMS = 500;
const LONGEST_ITEM = 256;
const LONGEST_ITEM_MESSAGE = 1024;
const DESIRED_STATE_FIELD = ControllerMessageSchema.field.desiredState.number;
const BODY_FIELDS = { first: 10, last: 19 } as const;
const REPORT_DIGEST_BYTES = 8;

/** A message of the controller; with a desired state come the bytes of its body as they were sent. */
export type ReceivedMessage = ControllerMessage & {
  /** Undefined if there is not exactly one body. */
  readonly stateBody?: Uint8Array | undefined;
};

/** Parses a message of the controller. Throws if it is none. */
export function decodeControllerMessage(bytes: Uint8Array): ReceivedMessage {
  const message = fromBinary(ControllerMessageSchema, bytes);
  return message.message.case === 'desiredState' ? Object.assign(message, { stateBody: bodyOf(bytes) }) : message;
}

/** What is signed is bytes: they are never serialised anew. Fields that come twice would be merged, and are no one's bytes. */
function bodyOf(bytes: Uint8Array): Uint8Array | undefined {
  const states = fieldsOf(bytes).filter(({ number }) => number === DESIRED_STATE_FIELD);
  const fields = states.flatMap((state) => fieldsOf(state.bytes));
  const bodies = fields.filter(({ number }) => number >= BODY_FIELDS.first && number <= BODY_FIELDS.last);
  return states.length === 1 && bodies.length === 1 ? bodies[0]!.bytes : undefined;
}

/** Kind of a desired state by its name in core; undefined for one that no capability keeps. */
export function stateKindOf({ kind }: Pick<DesiredState, 'kind'>): StateKind | undefined {
  return (Object.keys(KINDS) as StateKind[]).find((name) => KINDS[name].kind === kind);
}

/** The report of what was observed. */
export function observedReport(name: StateKind, { generation, digest, items, detail }: StateObservation): StateReport {
  const { kind, detail: schema } = KINDS[name];
  const report = create(StateReportSchema, {
    kind,
    generation,
    digest,
    items: items.slice(0, MOST_ITEMS).map(wireItem),
  });
  report.detail = { case: name, value: fromBinary(schema, detail) } as StateReport['detail'];
  return report;
}

/** Says that nothing is held. */
export function emptyReport(name: StateKind): StateReport {
  return create(StateReportSchema, { kind: KINDS[name].kind });
}

/** The report of a generation that was refused whole. */
export function refusedReport(kind: DesiredStateKind, generation: bigint, error: unknown): StateReport {
  return create(StateReportSchema, { kind, generation, error: wireError(error) });
}

/** A report that is too large for its controller: what it is of, and an item that says why there is no more. */
export function withoutDetail({ kind, generation, digest }: StateReport, error: LonglineError): AgentMessage {
  const value = create(StateReportSchema, { kind, generation, digest, items: [wireItem({ item: 'report', error })] });
  return create(AgentMessageSchema, { message: { case: 'stateReport', value } });
}

/** What Hello says of a state that is held, with the report that tells how it is, if there is one. */
export function stateRef(name: StateKind, held: StateRef, report: StateReport | undefined): DesiredStateRef {
  const { generation, digest } = held;
  const told = report?.generation === generation && Buffer.compare(report.digest, digest) === 0;
  const { kind } = KINDS[name];
  return create(DesiredStateRefSchema, {
    kind,
    generation,
    digest,
    ...(told && { reportDigest: reportDigest(report) }),
  });
}

/** Names a report: equal ones have equal digests. */
export function reportDigest(report: StateReport): Uint8Array {
  const hash = createHash('sha256').update(toBinary(StateReportSchema, report)).digest();
  return Uint8Array.from(hash.subarray(0, REPORT_DIGEST_BYTES));
}

/** The number of a kind. */
export function kindNumber(name: StateKind): DesiredStateKind {
  return KINDS[name].kind;
}

/** Throws `invalid` for what can't be a change of its kind: no generation, or not exactly one body of that kind. */
export function checkForm(name: StateKind, { generation, baseGeneration, body }: DesiredState): void {
  if (generation === 0n) throw malformed('generation', 'is 0; the first is 1');
  if (baseGeneration >= generation) {
    throw malformed('base_generation', `is ${baseGeneration}; it must be less than generation ${generation}`);
  }
  if (body.case !== name) throw malformed('body', `is ${body.case ?? 'missing'}; kind ${name} needs ${name}`);
}

/** The bytes of the body, or `invalid` if there isn't exactly one. */
export function onlyBody(body: Uint8Array | undefined): Uint8Array {
  if (body === undefined) throw malformed('body', 'is there more than once, or in several parts; send it once');
  return body;
}

function malformed(field: string, description: string): LonglineError {
  return invalid([{ field: `desired_state.${field}`, description }]);
}

/** Its message names fields too; there may be hundreds of these. */
function wireItem({ item, error }: StateItemError) {
  const wire = wireError(error);
  const message = wire.message.slice(0, LONGEST_ITEM_MESSAGE).toWellFormed();
  return { item: item.slice(0, LONGEST_ITEM).toWellFormed(), error: { ...wire, message, violations: [] } };
}

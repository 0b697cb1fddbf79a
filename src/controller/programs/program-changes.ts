// Changes of the programs of one agent: what is wanted of it, and what is noted of each, as one step. It knows neither artifacts'
// contents nor assignments. Fails as ItemChanges does, and as `wrong_state` where an artifact isn't stored (any more).
import { createHash } from 'node:crypto';
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import type { ProgramSpec } from '#gen/longline/v1/program_pb.js';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { Bus } from '../bus/bus.ts';
import { programsTopic } from '../bus/topics.ts';
import { ItemChanges, type ItemEdit, type NextBody } from '../states/item-changes.ts';
import { PROGRAM_STATE, programSpecBytes } from '../states/program-state-body.ts';
import type { PutStateOutcome } from '../store/desired-state.ts';
import type { ProgramCommit, ProgramRecord, ProgramRepository } from '../store/program.ts';
import type { Store } from '../store/store.ts';

/** A program that is to be so. */
export interface ProgramPut {
  readonly kind: 'put';
  /** Empty if it is put by itself. */
  readonly assignment: string;
  /** In the form of programSpecMessage, so that the same spec is the same bytes. */
  readonly spec: ProgramSpec;
  /** Of the spec, as programHash gives it. */
  readonly hash: Uint8Array;
}

/** What is to become of one program. */
export type ProgramEdit = ItemEdit<ProgramPut>;

/** What it is made from. */
export interface ProgramChangesParts {
  readonly store: Pick<Store, 'desiredStates'> & { readonly programs: Pick<ProgramRepository, 'ofAgent' | 'commit'> };
  readonly bus: Bus;
  readonly clock: Clock;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
}

/** SHA-256 of a spec, serialised as it is in a full state. */
export function programHash(spec: ProgramSpec): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(programSpecBytes(spec)).digest());
}

/** The way to change programs. Stateless: every replica may have one. */
export class ProgramChanges extends ItemChanges<ProgramRecord, ProgramPut> {
  constructor({ store, bus, clock, tracer }: ProgramChangesParts) {
    super(
      { desiredStates: store.desiredStates, bus, clock, tracer },
      {
        stateKind: DesiredStateKind.PROGRAMS,
        topic: programsTopic,
        ownerOf: ({ assignment }) => assignment,
        nameOf: ({ spec }) => spec.name,
        ofAgent: async (agentId) => await store.programs.ofAgent(agentId),
        next,
        commit: async (state, edits, before) =>
          await commit(store, { state, programs: edits.map((edit) => recordOf(edit, before)) }),
      },
    );
  }
}

async function commit(store: ProgramChangesParts['store'], change: ProgramCommit): Promise<PutStateOutcome> {
  const outcome = await store.programs.commit(change);
  if (outcome.kind === 'no_artifact') throw noArtifact(outcome.digest);
  return outcome;
}

/** Why an artifact can't be wanted. */
export function noArtifact(digest: string): LonglineError {
  return new LonglineError('wrong_state', `artifact ${digest} is not stored here; upload it first`);
}

function next(stored: Uint8Array | undefined, edits: readonly ProgramEdit[]): NextBody {
  const current = stored === undefined ? PROGRAM_STATE.empty() : PROGRAM_STATE.decode(stored);
  const programs = new Map(current.programs.map((spec) => [spec.name, spec]));
  for (const edit of edits) {
    if (edit.kind === 'put') programs.set(edit.spec.name, edit.spec);
    else programs.delete(edit.name);
  }
  const wanted = { ...current, programs: [...programs.values()] };
  const undo = stored && PROGRAM_STATE.encodeDelta(PROGRAM_STATE.diff(wanted, current));
  return { body: PROGRAM_STATE.encode(wanted), undo };
}

function recordOf(edit: ProgramEdit, before: readonly ProgramRecord[]): ProgramCommit['programs'][number] {
  if (edit.kind === 'put') {
    const { spec, assignment, hash } = edit;
    return { name: spec.name, assignment, artifact: spec.artifact, specHash: hash, removing: false };
  }
  return { ...before.find(({ name }) => name === edit.name)!, removing: true };
}

// Agents that bring programs about in no time, for tests of what asks them: they take states from the store and report to it.
import { createHash } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { DesiredStateKind, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason, ErrorSchema } from '#gen/longline/v1/error_pb.js';
import {
  ProgramDesiredStateSchema,
  type ProgramSpec,
  ProgramSpecSchema,
  ProgramState,
} from '#gen/longline/v1/program_pb.js';
import type { Bus } from '../../../src/controller/bus/bus.ts';
import { desiredStatesTopic, programsTopic } from '../../../src/controller/bus/topics.ts';
import { pollProgramsOf } from '../../../src/controller/rollouts/polled-programs.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import type { Fate } from './rollout-model.ts';

const KIND = DesiredStateKind.PROGRAMS;

/** Digest of an artifact that a number names. */
export const artifactOf = (number: number): string => `sha256:${String(number).padStart(64, '0')}`;

/** Stores artifacts by number. */
export async function storeArtifacts(store: Store, ...numbers: readonly number[]): Promise<void> {
  for (const number of numbers) {
    const metadata = new Uint8Array();
    const artifact = { digest: artifactOf(number), size: 1, name: 'drop', metadata, signers: [], createdAtMs: 1 };
    await store.artifacts.put(artifact, Uint8Array.of(number), 1024 * 1024);
  }
}

/** An agent that does what is wanted of it whenever it is told to. */
export class ProgramAgent {
  readonly id: string;
  readonly #store: Store;
  readonly #bus: Bus;
  /** How it takes an artifact. */
  fate: (artifact: string) => Fate = () => 'well';
  /** What it has: of the last state that it applied, and of its registry. */
  programs: readonly ProgramSpec[] = [];
  polled: readonly ProgramSpec[] = [];
  readonly #rolledBack = new Map<string, string>();

  constructor(id: string, store: Store, bus: Bus) {
    this.id = id;
    this.#store = store;
    this.#bus = bus;
  }

  /** Names with the last character of their artifacts. */
  runs(): string[] {
    return [...this.programs, ...this.polled].map(({ artifact, name }) => `${name} ${artifact.at(-1)}`);
  }

  /** Applies and polls what is wanted now, and says so; true if it says anything new. */
  async apply(): Promise<boolean> {
    const before = await this.#said();
    const wanted = await this.#store.desiredStates.get(this.id, KIND);
    const programs = wanted === undefined ? [] : fromBinary(ProgramDesiredStateSchema, wanted.body).programs;
    const refused = programs.some(({ artifact }) => this.fate(artifact) === 'refuses');
    if (wanted !== undefined && refused) {
      const error = toBinary(ErrorSchema, create(ErrorSchema, { reason: ErrorReason.POLICY, message: 'not here' }));
      await this.#store.desiredStates.refused(this.id, KIND, { generation: wanted.generation, error, atMs: 1 });
    } else {
      this.programs = programs;
      this.polled = await pollProgramsOf(this.#store, this.id);
      await this.#tell(wanted?.generation ?? 0n);
    }
    this.#bus.publish(desiredStatesTopic, { agentId: this.id, stateKind: KIND });
    return (await this.#said()) !== before;
  }

  async #said(): Promise<string> {
    const told = await this.#store.stateReports.get(this.id, KIND);
    const refusal = (await this.#store.desiredStates.get(this.id, KIND))?.refusal?.generation;
    const noted = await this.#store.programs.ofAgent(this.id);
    return `${Buffer.from(told?.report ?? []).toString('hex')} ${refusal} ${noted.map(({ name }) => name)}`;
  }

  async #tell(generation: bigint): Promise<void> {
    const store = this.#store;
    const programs = [
      ...this.programs.map((spec) => this.#status(spec, 'controller')),
      ...this.polled.map((spec) => this.#status(spec, 'registry')),
    ];
    const detail = { case: 'programs' as const, value: { programs } };
    const report = toBinary(StateReportSchema, create(StateReportSchema, { kind: KIND, generation, detail }));
    await store.desiredStates.applied(this.id, KIND, generation);
    await store.stateReports.put({ agentId: this.id, kind: KIND, generation, report, storedAtMs: 1 });
    // As the upkeep of programs does.
    const names = (await store.programs.ofAgent(this.id)).map(({ name }) => name);
    for (const name of await store.programs.forget(this.id, names, generation)) {
      this.#bus.publish(programsTopic, { agentId: this.id, name });
    }
  }

  #status(spec: ProgramSpec, source: string) {
    const { artifact, name } = spec;
    const fate = this.fate(artifact);
    if (fate === 'rolls_back') this.#rolledBack.set(artifact, `${this.id} ${artifact}`);
    const rollback = this.#rolledBack.get(artifact);
    const gone = rollback !== undefined;
    const state = fate === 'fails' || gone ? ProgramState.FAILED : ProgramState.ACTIVE;
    const problems = state === ProgramState.FAILED ? [{ field: 'verifier', error: { message: 'too many steps' } }] : [];
    return {
      name,
      source,
      state: fate === 'hangs' ? ProgramState.DISCOVERED : state,
      wantedArtifact: artifact,
      wantedSha256: createHash('sha256').update(toBinary(ProgramSpecSchema, spec)).digest(),
      quarantined: gone,
      problems,
      ...(state === ProgramState.ACTIVE ? { current: { artifact } } : {}),
      ...(gone ? { lastRollback: { id: rollback, from: { artifact }, reason: 'errors' } } : {}),
    };
  }
}

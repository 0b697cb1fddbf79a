// Artifacts and agents with programs, for tests of what stores the ones and asks the others.
import { createHash, randomBytes } from 'node:crypto';
import { create, fromBinary, type MessageInitShape, toJsonString } from '@bufbuild/protobuf';
import { DesiredStateKind, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import {
  ProgramDesiredStateSchema,
  ProgramMetadataSchema,
  ProgramParameterType,
  ProgramState,
  type ProgramStatusSchema,
  ProgramType,
} from '#gen/longline/v1/program_pb.js';
import { bodyDigest } from '../../../src/controller/states/state-body.ts';
import { newId } from '../../../src/core/ids.ts';
import { packArtifact } from '../../../src/core/programs/artifact.ts';
import type { ControlStream, FleetUnderTest, ScriptedAgent } from '../link/fleet-fixture.ts';

export type MetadataInit = MessageInitShape<typeof ProgramMetadataSchema>;
export type StatusInit = MessageInitShape<typeof ProgramStatusSchema>;

/** What these agents call themselves; make them known by these names. */
export const NAMES = { instanceId: newId(), bootId: newId() };

/** An artifact.tar.zst that nobody can run, with its digest. `size` is that of its object, which can't be compressed. */
export async function artifactOf(patch: MetadataInit = {}, size = 100) {
  const object = new Uint8Array(randomBytes(size));
  const metadata = create(ProgramMetadataSchema, {
    name: 'drop',
    version: '1.0.0',
    objectSha256: createHash('sha256').update(object).digest('hex'),
    objectSize: BigInt(object.length),
    functions: [{ name: 'count', type: ProgramType.XDP, attach: ['xdp:eth0'] }],
    parameters: [
      { name: 'limit', type: ProgramParameterType.UINT, target: { case: 'variable', value: 'limit' }, max: '1000' },
    ],
    ...patch,
  });
  const metadataBytes = new TextEncoder().encode(toJsonString(ProgramMetadataSchema, metadata));
  const signatures = [{ keyId: 'ops', algorithm: 'ed25519' as const, signature: new Uint8Array(64) }];
  const bytes = await packArtifact({ metadataBytes, object, signatures });
  return { bytes, digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}` };
}

/** Bytes as messages of an upload. */
export async function* piecesOf(bytes: Uint8Array, size = 100_000) {
  for (let at = 0; at < bytes.length; at += size) yield { data: bytes.subarray(at, at + size) };
}

/** An agent over a real stream that says what it is told to say of its programs. */
export class ProgramAgent {
  readonly agent: ScriptedAgent;
  readonly stream: ControlStream;

  private constructor(agent: ScriptedAgent, stream: ControlStream) {
    this.agent = agent;
    this.stream = stream;
  }

  static async connect(fleet: FleetUnderTest, id: string): Promise<ProgramAgent> {
    const agent = fleet.agent(id, NAMES);
    return new ProgramAgent(agent, await agent.connect());
  }

  /** Takes the next desired state that is sent, whole, and says that it brought it about. */
  async apply(fleet: FleetUnderTest, state = ProgramState.ACTIVE): Promise<void> {
    const { generation } = await this.stream.next('desiredState');
    const { body } = (await fleet.store.desiredStates.get(this.agent.agentId, DesiredStateKind.PROGRAMS))!;
    const { programs } = fromBinary(ProgramDesiredStateSchema, body);
    const told = programs.map(({ artifact, name }) => {
      const current = { number: 1n, artifact };
      return { name, source: 'controller', state, current, wantedArtifact: artifact };
    });
    this.tell(generation, told, bodyDigest(body));
  }

  /** Reports programs. */
  tell(generation: bigint, programs: StatusInit[], digest: Uint8Array = new Uint8Array()): void {
    const kind = DesiredStateKind.PROGRAMS;
    const report = { kind, generation, digest, detail: { case: 'programs' as const, value: { programs } } };
    this.stream.send({ case: 'stateReport', value: create(StateReportSchema, report) });
  }
}

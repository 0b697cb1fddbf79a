import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import {
  type ClientReadableStream,
  credentials,
  Client as GrpcClient,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import {
  AgentLinkService,
  FetchArtifactRequestSchema,
  type FetchArtifactResponse,
} from '#gen/longline/link/v1/link_pb.js';
import { grpcMethodDefinition } from '../../../src/core/grpc-definition.ts';
import { artifactOf, piecesOf } from '../services/program-fixture.ts';
import { connection } from '../store/store-contract.ts';
import { FleetUnderTest, until } from './fleet-fixture.ts';

const FETCH = grpcMethodDefinition(AgentLinkService.method.fetchArtifact);

describe('an artifact for an agent', () => {
  let fleet: FleetUnderTest;
  let client: GrpcClient;
  let bytes: Uint8Array;
  let digest: string;
  beforeEach(async () => {
    fleet = await FleetUnderTest.start();
    client = new GrpcClient(fleet.grpcAddress, credentials.createInsecure());
    for (const id of ['a', 'b']) await fleet.store.agents.connect(connection(id));
    ({ bytes, digest } = await artifactOf({}, 400_000));
    await fleet.programs.uploadArtifact(piecesOf(bytes));
  });
  afterEach(async () => {
    client.close();
    await fleet[Symbol.asyncDispose]();
  });

  const put = async (artifact: string) =>
    await fleet.programs.putProgram({ agentId: 'a', spec: { name: 'p', artifact } });
  const open = (agentId: string, asked: string, offset = 0n) => {
    const metadata = new Metadata();
    metadata.set('longline-agent-id', agentId);
    const request = create(FetchArtifactRequestSchema, { digest: asked, offset });
    const { path, requestSerialize, responseDeserialize } = FETCH;
    const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, metadata);
    return call as unknown as ClientReadableStream<FetchArtifactResponse>;
  };
  const fetch = async (agentId: string, asked: string, offset = 0n) => {
    const parts: FetchArtifactResponse[] = [];
    for await (const part of open(agentId, asked, offset)) parts.push(part as FetchArtifactResponse);
    return parts;
  };
  const refused = async (call: Promise<unknown>, code: number) => {
    const error = await call.then(
      () => undefined,
      (thrown: ServiceError) => thrown,
    );
    assert.ok(error !== undefined, 'it was not refused');
    assert.equal(error.code, code, error.details);
    return error.details;
  };

  it('comes in pieces, from wherever it wants to go on', async () => {
    await put(digest);
    const parts = await fetch('a', digest);
    assert.equal(Buffer.compare(Buffer.concat(parts.map(({ data }) => data)), bytes), 0);
    assert.ok(parts.every(({ data, size }) => data.length <= 65_536 && size === BigInt(bytes.length)));
    const rest = await fetch('a', digest, 300_001n);
    assert.equal(Buffer.compare(Buffer.concat(rest.map(({ data }) => data)), bytes.subarray(300_001)), 0);
    const none = await fetch('a', digest, BigInt(bytes.length));
    assert.deepEqual(
      none.map(({ data, size }) => [data.length, size]),
      [[0, BigInt(bytes.length)]],
    );
    await refused(fetch('a', digest, BigInt(bytes.length) + 1n), status.INVALID_ARGUMENT);
  });

  it('comes only to one that it is wanted of, or was until the last change', async () => {
    await put(digest);
    await refused(fetch('b', digest), status.PERMISSION_DENIED);
    for (const wrong of ['', 'sha256:0', '../../etc/passwd', digest.toUpperCase()]) {
      assert.match(await refused(fetch('a', wrong), status.INVALID_ARGUMENT), /64 hex digits/);
    }
    await refused(fetch('a', `sha256:${'0'.repeat(64)}`), status.PERMISSION_DENIED);
    const next = await artifactOf({ version: '2.0.0' });
    await fleet.programs.uploadArtifact(piecesOf(next.bytes));
    await put(next.digest);
    assert.ok((await fetch('a', digest)).length > 1, 'an agent a step behind gets it');
    assert.ok((await fetch('a', next.digest)).length > 0);
    await fleet.programs.putProgram({ agentId: 'a', spec: { name: 'q', artifact: next.digest } });
    await refused(fetch('a', digest), status.PERMISSION_DENIED);
    await fleet.programs.deleteProgram({ agentId: 'a', name: 'p' });
    await fleet.programs.deleteProgram({ agentId: 'a', name: 'q' });
    await fleet.programs.deleteArtifact({ digest: next.digest });
    await refused(fetch('a', next.digest), status.NOT_FOUND);
  });

  it('is read no faster than its agent reads', async () => {
    const { artifacts } = fleet.store;
    // Far more than all buffers on the way hold.
    const large = new Uint8Array(32 * 1024 * 1024);
    const record = { ...(await artifacts.get(digest))!, digest: `sha256:${'1'.repeat(64)}`, size: large.length };
    await artifacts.put(record, large, 1e9);
    await put(record.digest);
    const read = artifacts.read.bind(artifacts);
    let reads = 0;
    artifacts.read = async (...asked) => {
      reads += 1;
      return await read(...asked);
    };
    const call = open('a', record.digest);
    const first = Promise.withResolvers<void>();
    let received = 0;
    call.on('data', ({ data }: FetchArtifactResponse) => {
      if (received === 0) call.pause();
      received += data.length;
      first.resolve();
    });
    await first.promise;
    let before = -1;
    // Nothing more is read once all buffers on the way are full.
    for (let quiet = 0; quiet < 200; quiet = before === reads ? quiet + 1 : 0) {
      before = reads;
      await nextTurn();
    }
    assert.ok(reads < large.length / 65_536, `${reads} pieces were read`);
    call.resume();
    await until('the rest', () => received === large.length);
  });

  it('ends with the call of an agent that leaves', async () => {
    await put(digest);
    const call = open('a', digest);
    call.once('data', () => call.cancel());
    const error = await new Promise<ServiceError>((resolve) => call.on('error', resolve));
    assert.equal(error.code, status.CANCELLED);
    assert.ok((await fetch('a', digest)).length > 1);
  });
});

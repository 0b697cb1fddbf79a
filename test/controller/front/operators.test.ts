// Operators, services and browsers on the port: every protocol and the clients people use.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import {
  AgentService,
  ListAgentsRequestSchema,
  ListAgentsResponseSchema,
} from '#gen/longline/fleet/v1/agent_service_pb.js';
import { Role, TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { withConnect } from './agent-client.ts';
import { FrontFixture } from './front-fixture.ts';
import { fromConnectError } from './received-errors.ts';

const run = promisify(execFile);
const BIN = fileURLToPath(new URL('../../../node_modules/.bin', import.meta.url));
const env = { ...process.env, PATH: `${BIN}${delimiter}${process.env['PATH']}` };
const LIST = '/longline.fleet.v1.AgentService/ListAgents';

/** Runs a program and gives its output, also when it fails. */
async function output(program: string, ...args: string[]): Promise<string> {
  const done = await run(program, args, { env, timeout: 120_000, encoding: 'latin1' }).catch(
    (error: { stdout: string; stderr: string }) => error,
  );
  return `${done.stdout}${done.stderr}`;
}

async function caFile(fixture: FrontFixture): Promise<string> {
  const path = join(fixture.folder, 'ca-for-clients.pem');
  await writeFile(path, fixture.ca);
  return path;
}

const tokenOf = async (fixture: FrontFixture, role: 'viewer' | 'operator' | 'admin') =>
  (await fixture.apiTokens.create(`the-${role}`, role, undefined)).token;

it('answers plain curl with JSON over HTTP/2 and HTTP/1.1', async () => {
  await using fixture = await FrontFixture.start();
  const token = await tokenOf(fixture, 'viewer');
  const common = [
    '-sS',
    '--cacert',
    await caFile(fixture),
    '-H',
    `authorization: Bearer ${token}`,
    '-H',
    'content-type: application/json',
  ];
  for (const version of ['--http2', '--http1.1']) {
    const answer = await output('curl', version, ...common, '-d', '{}', `${fixture.url}${LIST}`);
    assert.deepEqual(JSON.parse(answer), { agents: [{ id: 'the-viewer' }], nextPageToken: 'viewer' });
  }
  const unknown = await output(
    'curl',
    ...common,
    '-o',
    '/dev/null',
    '-w',
    '%{http_code}',
    `${fixture.url}/nothing/Here`,
  );
  assert.equal(unknown, '404');
});

it('answers buf curl through reflection, in every protocol it speaks', async () => {
  await using fixture = await FrontFixture.start();
  const ca = await caFile(fixture);
  const token = await tokenOf(fixture, 'operator');
  const services = await output('buf', 'curl', '--cacert', ca, '--list-services', fixture.url);
  assert.deepEqual(services.trim().split('\n'), [
    'grpc.health.v1.Health',
    'longline.fleet.v1.AgentService',
    'longline.fleet.v1.TokenService',
    'longline.link.v1.EnrollmentService',
  ]);
  for (const protocol of ['grpc', 'grpcweb', 'connect']) {
    for (const reflection of ['grpc-v1', 'grpc-v1alpha']) {
      const args = ['curl', '--cacert', ca, '--protocol', protocol, '--reflect-protocol', reflection];
      const answer = await output(
        'buf',
        ...args,
        '-H',
        `authorization: Bearer ${token}`,
        '-d',
        '{}',
        `${fixture.url}${LIST}`,
      );
      assert.deepEqual(JSON.parse(answer), { agents: [{ id: 'the-operator' }], nextPageToken: 'operator' });
    }
  }
  const health = await output('buf', 'curl', '--cacert', ca, '-d', '{}', `${fixture.url}/grpc.health.v1.Health/Check`);
  assert.deepEqual(JSON.parse(health), { status: 'SERVING' });
  const methods = await output('buf', 'curl', '--cacert', ca, '--list-methods', fixture.url);
  assert.match(methods, /longline\.fleet\.v1\.AgentService\/WatchAgents/);
});

it('frames gRPC-Web as browsers expect it', async () => {
  await using fixture = await FrontFixture.start();
  const token = await tokenOf(fixture, 'viewer');
  const message = toBinary(ListAgentsRequestSchema, {
    $typeName: 'longline.fleet.v1.ListAgentsRequest',
    pageSize: 1,
    pageToken: '',
    states: [],
  });
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  const file = join(fixture.folder, 'frame');
  await writeFile(file, frame);
  const headers = ['-H', `authorization: Bearer ${token}`, '-H', 'content-type: application/grpc-web+proto'];
  const answer = await output(
    'curl',
    '-sS',
    '--cacert',
    await caFile(fixture),
    ...headers,
    '--data-binary',
    `@${file}`,
    `${fixture.url}${LIST}`,
  );
  const bytes = Buffer.from(answer, 'latin1');
  const length = bytes.readUInt32BE(1);
  assert.equal(bytes[0], 0);
  assert.equal(fromBinary(ListAgentsResponseSchema, bytes.subarray(5, 5 + length)).agents[0]?.id, 'the-viewer');
  assert.equal(bytes[5 + length], 0x80);
  assert.match(bytes.subarray(10 + length).toString(), /grpc-status: 0/);
});

it('answers Connect and gRPC-Web clients over HTTP/1.1', async () => {
  await using fixture = await FrontFixture.start();
  const token = await tokenOf(fixture, 'viewer');
  const options = { baseUrl: fixture.url, httpVersion: '1.1' as const, nodeOptions: { ca: fixture.ca } };
  for (const transport of [createConnectTransport(options), createGrpcWebTransport(options)]) {
    const client = createClient(AgentService, transport);
    const { agents } = await client.listAgents({}, { headers: { authorization: `Bearer ${token}` } });
    assert.equal(agents[0]?.id, 'the-viewer');
  }
});

it('carries errors with details, and causes only to the log', async () => {
  await using fixture = await FrontFixture.start();
  const admin = await tokenOf(fixture, 'admin');
  const failure = async (call: Promise<unknown>): Promise<ConnectError> => {
    const error = await call.then(() => undefined, ConnectError.from);
    assert.ok(error !== undefined, 'the call should have failed');
    return error;
  };
  await withConnect(
    fixture,
    TokenService,
    async (client) => {
      const error = fromConnectError(await failure(client.createApiToken({ name: '', role: Role.UNSPECIFIED })));
      assert.equal(error.reason, 'invalid');
      assert.deepEqual(
        error.violations.map(({ field }) => field),
        ['name', 'role'],
      );
    },
    admin,
  );
  await withConnect(
    fixture,
    AgentService,
    async (client) => {
      const missing = await failure(client.getAgent({ agentId: 'x' }));
      assert.deepEqual([missing.code, missing.rawMessage], [Code.NotFound, 'agent_id: there is no agent x']);
      const crash = await failure(client.getAgent({ agentId: 'crash' }));
      assert.equal(crash.code, Code.Internal);
      assert.doesNotMatch(crash.message, /secret of the inside/);
      assert.ok(
        fixture.lines.some(
          ({ level, fields }) => level === 'error' && /secret of the inside/.test(String(fields['err'])),
        ),
      );
    },
    admin,
  );
});

it('refuses callers without a token, with a wrong one, or with too small a role', async () => {
  await using fixture = await FrontFixture.start();
  const viewer = await tokenOf(fixture, 'viewer');
  const ended = (await fixture.apiTokens.create('ended', 'admin', 1)).token;
  const revoked = await fixture.apiTokens.create('revoked', 'admin', undefined);
  await fixture.repositories.apiTokens.revoke(revoked.record.id);
  const codeWith = (token: string | undefined) =>
    withConnect(
      fixture,
      TokenService,
      (client) =>
        client.listApiTokens({}).then(
          () => undefined,
          (error: ConnectError) => error.code,
        ),
      token,
    );
  assert.equal(await codeWith(undefined), Code.Unauthenticated);
  assert.equal(await codeWith('lla1.short'), Code.Unauthenticated);
  assert.equal(await codeWith(`lla1.${'A'.repeat(43)}`), Code.Unauthenticated);
  assert.equal(await codeWith(ended), Code.Unauthenticated);
  assert.equal(await codeWith(revoked.token), Code.Unauthenticated);
  assert.equal(await codeWith(viewer), Code.PermissionDenied);
  assert.equal(await codeWith(await tokenOf(fixture, 'admin')), undefined);
});

it('slows down guessing over one connection, and only there', async () => {
  await using fixture = await FrontFixture.start({ limits: { failedAuthentications: { perSecond: 0.001, burst: 3 } } });
  const admin = await tokenOf(fixture, 'admin');
  await withConnect(fixture, TokenService, async (client) => {
    const codes: Code[] = [];
    for (let i = 0; i < 5; i++) await client.listApiTokens({}).catch((error: ConnectError) => codes.push(error.code));
    const { Unauthenticated: wrong, ResourceExhausted: slow } = Code;
    assert.deepEqual(codes, [wrong, wrong, wrong, slow, slow]);
    const error = await client
      .listApiTokens({}, { headers: { authorization: `Bearer ${admin}` } })
      .catch(fromConnectError);
    assert.ok(error instanceof Error && (error.retryAfterMs ?? 0) > 0);
  });
  await withConnect(fixture, TokenService, (client) => client.listApiTokens({}), admin);
});

it('tells watchers of health about a shutdown, and ends streams', async () => {
  await using fixture = await FrontFixture.start();
  const viewer = await tokenOf(fixture, 'viewer');
  await withConnect(
    fixture,
    AgentService,
    async (client) => {
      let seen = 0;
      const watching = (async () => {
        for await (const _ of client.watchAgents({})) if (++seen === 2) void fixture.front.shutdown(4000, 'bye');
      })();
      await assert.rejects(watching, (error: ConnectError) => error.code === Code.Unavailable);
    },
    viewer,
  );
});

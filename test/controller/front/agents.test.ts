// Agents on the port: certificates of ours reach the agents' stack, others are refused with a reason.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { Code, type ConnectError } from '@connectrpc/connect';
import { Metadata, status } from '@grpc/grpc-js';
import { TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { EnrollmentService } from '#gen/longline/link/v1/enrollment_pb.js';
import { hashSecret } from '../../../src/controller/identity/secrets.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { parseEnrollmentToken } from '../../../src/core/enrollment-token.ts';
import { memoryRepositories } from '../../fixtures/identity-memory.ts';
import {
  AgentClient,
  type AgentCredentials,
  echo,
  enrollAgent,
  failureOf,
  newKeyAndRequest,
  toPem,
  withConnect,
} from './agent-client.ts';
import { FrontFixture } from './front-fixture.ts';
import { fromGrpcStatus } from './received-errors.ts';

async function newSecretFor(fixture: FrontFixture, uses = 1): Promise<string> {
  const { token: admin } = await fixture.apiTokens.create('admin', 'admin', undefined);
  const { token } = await withConnect(fixture, TokenService, (client) => client.createEnrollmentToken({ uses }), admin);
  const parts = parseEnrollmentToken(token);
  assert.deepEqual(parts.caSha256, Buffer.from(fixture.identity.authority.pin));
  return parts.secret;
}

async function enrolled(fixture: FrontFixture, agentId = 'host-1'): Promise<AgentCredentials> {
  return await enrollAgent(fixture, agentId, await newSecretFor(fixture));
}

const addressOf = (fixture: FrontFixture) => `localhost:${fixture.port}`;

it('serves an enrolled agent over mTLS and knows who it is', async () => {
  await using fixture = await FrontFixture.start();
  using client = new AgentClient(addressOf(fixture), await enrolled(fixture));
  const stream = client.control();
  assert.equal(await echo(stream), 'host-1 certificate');
  stream.end();
  await once(stream, 'end');
});

it('renews over the current certificate, and takes both until the old one ends', async () => {
  await using fixture = await FrontFixture.start();
  const old = await enrolled(fixture);
  const { key, request } = await newKeyAndRequest();
  using oldClient = new AgentClient(addressOf(fixture), old);
  const response = await oldClient.renew(request);
  const renewed = {
    agentId: old.agentId,
    instanceId: old.instanceId,
    key,
    chain: toPem(response.certificateChain),
    ca: toPem(response.trustedCertificates),
  };
  assert.notEqual(new X509Certificate(renewed.chain).serialNumber, new X509Certificate(old.chain).serialNumber);
  for (const identity of [renewed, old]) {
    using client = new AgentClient(addressOf(fixture), identity);
    assert.equal(await echo(client.control()), 'host-1 certificate');
  }
});

it('does not renew for a caller without a certificate', async () => {
  await using fixture = await FrontFixture.start();
  const { request } = await newKeyAndRequest();
  await assert.rejects(
    withConnect(fixture, EnrollmentService, (client) => client.renew({ certificateRequest: request })),
    (error: ConnectError) => error.code === Code.Unauthenticated,
  );
});

it('carries errors to agents with their details, and causes only to the log', async () => {
  await using fixture = await FrontFixture.start();
  using client = new AgentClient(addressOf(fixture), await enrolled(fixture));
  const busy = fromGrpcStatus(await client.failureOf('telemetry'));
  assert.deepEqual([busy.reason, busy.message, busy.retryAfterMs, busy.retryable], ['limit', 'too busy', 1500, true]);
  const broken = await client.failureOf('tunnel');
  assert.equal(broken.code, status.INTERNAL);
  assert.doesNotMatch(JSON.stringify([broken.details, broken.metadata]), /secret of the inside/);
  assert.ok(
    fixture.lines.some(({ level, fields }) => level === 'error' && /secret of the inside/.test(String(fields['err']))),
  );
});

it('refuses a certificate of a foreign CA, and says so', async () => {
  await using fixture = await FrontFixture.start();
  await using other = await FrontFixture.start();
  const foreign = await enrolled(other);
  using client = new AgentClient(addressOf(fixture), { ...foreign, ca: fixture.ca });
  const error = await failureOf(client.control());
  assert.equal(error.code, status.UNAUTHENTICATED);
  assert.match(error.details, /was not issued by this controller's CA/);
});

it('refuses a revoked agent at connect and per call, and can cut it off', async () => {
  await using fixture = await FrontFixture.start();
  const identity = await enrolled(fixture);
  using client = new AgentClient(addressOf(fixture), identity);
  const open = client.control();
  await echo(open);
  await fixture.repositories.agentIdentities.revoke('host-1');
  // The connection still stands; a new call over it doesn't.
  const perCall = await failureOf(client.control());
  assert.deepEqual([perCall.code, perCall.details], [status.UNAUTHENTICATED, 'agent host-1 was revoked']);
  const cut = once(open, 'error');
  fixture.front.disconnectAgent('host-1');
  await cut;
  using again = new AgentClient(addressOf(fixture), identity);
  const atConnect = await failureOf(again.control());
  assert.deepEqual([atConnect.code, atConnect.details], [status.UNAUTHENTICATED, 'agent host-1 was revoked']);
});

it('refuses a certificate that has ended, also in a resumed session', async () => {
  let skewMs = 0;
  const clock = { ...systemClock, now: () => Date.now() + skewMs };
  await using fixture = await FrontFixture.start({ clock });
  const identity = await enrolled(fixture);
  using client = new AgentClient(addressOf(fixture), identity);
  await echo(client.control());
  skewMs = 25 * 3_600_000;
  using late = new AgentClient(addressOf(fixture), identity);
  const error = await failureOf(late.control());
  assert.equal(error.code, status.UNAUTHENTICATED);
  assert.match(error.details, /client certificate: ended at .*; enrol again with a new token/);
});

it('refuses a certificate whose serial is no longer accepted', async () => {
  await using fixture = await FrontFixture.start();
  const identity = await enrolled(fixture);
  const stored = await fixture.repositories.agentIdentities.find('host-1');
  const without = { ...stored!, certificates: [], version: stored!.version + 1 };
  await fixture.repositories.agentIdentities.save({ identity: without, spendTokenId: undefined, nowMs: Date.now() });
  using client = new AgentClient(addressOf(fixture), identity);
  const error = await failureOf(client.control());
  assert.equal(error.code, status.UNAUTHENTICATED);
  assert.match(error.details, /no longer accepted from agent host-1/);
});

it('serves agents with an API key in plaintext, and nobody else', async () => {
  await using fixture = await FrontFixture.start();
  const port = await fixture.front.listenPlaintext({ host: '127.0.0.1', port: 0 });
  const key = await fixture.agentKeys.create('host-2', {});
  assert.match(key, /^[0-9a-f]{64}$/);
  const stored = await fixture.repositories.agentIdentities.find('host-2');
  assert.deepEqual(stored?.apiKeyHash, hashSecret(key));
  using client = new AgentClient(`127.0.0.1:${port}`, undefined);
  const metadata = (agentId: string, value: string) => {
    const made = new Metadata();
    made.set('longline-agent-id', agentId);
    made.set('authorization', `Bearer ${value}`);
    return made;
  };
  assert.equal(await echo(client.control(metadata('host-2', key))), 'host-2 api_key');
  for (const wrong of [
    undefined,
    metadata('host-2', 'f'.repeat(64)),
    metadata('host-3', key),
    metadata('host-2', 'short'),
  ]) {
    assert.equal((await failureOf(client.control(wrong))).code, status.UNAUTHENTICATED);
  }
  await fixture.repositories.agentIdentities.revoke('host-2');
  assert.equal((await failureOf(client.control(metadata('host-2', key)))).code, status.UNAUTHENTICATED);
});

it('resumes TLS sessions with a restarted controller and still knows the agent', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-resume-'));
  const repositories = memoryRepositories();
  try {
    let session: Buffer | undefined;
    let identity: AgentCredentials | undefined;
    for (const expectReused of [false, true]) {
      await using fixture = await FrontFixture.start({ folder, repositories });
      identity ??= await enrolled(fixture);
      const { key, chain: cert, ca } = identity;
      const options = {
        host: '127.0.0.1',
        servername: 'localhost',
        port: fixture.port,
        ALPNProtocols: ['h2'],
        key,
        cert,
        ca,
      };
      const socket: TLSSocket = connect(session === undefined ? options : { ...options, session });
      const tickets = expectReused ? undefined : once(socket, 'session');
      await once(socket, 'secureConnect');
      assert.equal(socket.isSessionReused(), expectReused);
      // A resumed session gets no new ticket; the first one goes on being good.
      if (tickets !== undefined) session = (await tickets)[0] as Buffer;
      socket.destroy();
      using client = new AgentClient(addressOf(fixture), identity);
      assert.equal(await echo(client.control()), 'host-1 certificate');
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

it('asks the services to drain at shutdown, accepts nobody any more, and leaves nothing open', async () => {
  await using fixture = await FrontFixture.start();
  using client = new AgentClient(addressOf(fixture), await enrolled(fixture));
  const stream = client.control();
  await echo(stream);
  const ended = once(stream, 'error');
  await fixture.front.shutdown(200, 'test is over');
  await ended;
  assert.deepEqual(fixture.drained, ['test is over']);
  assert.equal(fixture.front.connectionCount, 0);
  await assert.rejects(
    withConnect(fixture, EnrollmentService, (enrollment) => enrollment.renew({})),
    (error: ConnectError) => error.code === Code.Unavailable || error.code === Code.Internal,
  );
});

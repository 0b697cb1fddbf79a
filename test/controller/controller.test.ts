// The whole controller, as `longline controller` starts it: real store, real services, real port.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { on, once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { connect } from 'node:tls';
import { create } from '@bufbuild/protobuf';
import { Code, type Client as ConnectClient, type ConnectError } from '@connectrpc/connect';
import type { ServiceError } from '@grpc/grpc-js';
import { ServerReflection } from '#gen/grpc/reflection/v1/reflection_pb.js';
import { AgentService } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { NetworkService } from '#gen/longline/fleet/v1/network_service_pb.js';
import { TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import {
  AgentMessageSchema,
  type ControllerMessage,
  type DesiredState,
  DesiredStateKind,
} from '#gen/longline/link/v1/link_pb.js';
import type { ControllerOptions } from '../../src/controller/config.ts';
import { type Controller, runController } from '../../src/controller/controller.ts';
import type { ServiceParts } from '../../src/controller/front/routes.ts';
import { openServices } from '../../src/controller/services/open-services.ts';
import { systemClock } from '../../src/core/clock.ts';
import { parseEnrollmentToken } from '../../src/core/enrollment-token.ts';
import type { LonglineError } from '../../src/core/errors.ts';
import { Progress } from '../../src/core/progress.ts';
import { AgentClient, type AgentCredentials, enrollAgent, failureOf, withConnect } from './front/agent-client.ts';

let root: string;
let dataDir: string;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'longline-controller-'));
});
after(() => rm(root, { recursive: true, force: true }));
beforeEach(async () => {
  dataDir = join(await mkdtemp(join(root, 'case-')), 'data');
});

const start = (options: Partial<ControllerOptions> = {}): Promise<Controller> =>
  runController({ dataDir, listen: '127.0.0.1:0', logLevel: 'silent', drainWindowMs: 200, ...options });

async function contextOf(
  controller: Controller,
): Promise<{ url: string; token: string; ca: string; controller_id: string }> {
  return JSON.parse(await readFile(controller.contextPath, 'utf8'));
}

it('starts from nothing, writes a context that works, and enrols an agent', async () => {
  await using controller = await start();
  const context = await contextOf(controller);
  assert.deepEqual([context.url, context.controller_id], [controller.url, controller.controllerId]);
  const { token } = await withConnect(
    context,
    TokenService,
    (client) => client.createEnrollmentToken({ labels: { zone: 'a' } }),
    context.token,
  );
  const identity = await enrollAgent(context, 'host-1', parseEnrollmentToken(token).secret);
  await withConnect(
    context,
    AgentService,
    async (client) => {
      const { agents } = await client.listAgents({});
      assert.deepEqual(
        agents.map(({ id, assignedLabels }) => [id, assignedLabels]),
        [['host-1', { zone: 'a' }]],
      );
    },
    context.token,
  );
  // A heartbeat before Hello: the link server is there, and tells a proven agent what is wrong.
  using agent = new AgentClient(`localhost:${new URL(context.url).port}`, identity);
  const stream = agent.control();
  const failure = failureOf(stream);
  stream.write({ $typeName: 'longline.link.v1.AgentMessage', message: { case: undefined } });
  assert.equal((await failure).code, Code.FailedPrecondition);
});

it('cuts off a revoked agent', async () => {
  await using controller = await start();
  const context = await contextOf(controller);
  const { token } = await withConnect(
    context,
    TokenService,
    (client) => client.createEnrollmentToken({}),
    context.token,
  );
  const identity = await enrollAgent(context, 'host-1', parseEnrollmentToken(token).secret);
  await withConnect(context, AgentService, (client) => client.revokeAgent({ agentId: 'host-1' }), context.token);
  using agent = new AgentClient(`localhost:${new URL(context.url).port}`, identity);
  const failure = await failureOf(agent.control());
  assert.deepEqual([failure.code, failure.details], [Code.Unauthenticated, 'agent host-1 was revoked']);
});

it('revokes one replica of an agent, and the others go on', async () => {
  await using controller = await start();
  const context = await contextOf(controller);
  const agents = async <T>(use: (client: ConnectClient<typeof AgentService>) => Promise<T>) =>
    await withConnect(context, AgentService, use, context.token);
  const newToken = { agentId: 'host-1', uses: 3 };
  const made = async (client: ConnectClient<typeof TokenService>) => await client.createEnrollmentToken(newToken);
  const { secret } = parseEnrollmentToken((await withConnect(context, TokenService, made, context.token)).token);
  const enrolled = async () => await enrollAgent(context, 'host-1', secret);
  const [one, other, third] = [await enrolled(), await enrolled(), await enrolled()];
  const held = async () => {
    const { certificates } = await agents((client) => client.getAgent({ agentId: 'host-1' }));
    return certificates.map(({ instanceId }) => instanceId);
  };
  assert.deepEqual(await held(), [one.instanceId, other.instanceId, third.instanceId]);
  const address = `localhost:${new URL(context.url).port}`;
  const revoke = async (instanceId: string) =>
    await agents((client) => client.revokeAgent({ agentId: 'host-1', instanceId }));

  using leader = new AgentClient(address, one);
  const stream = leader.control();
  assert.equal((await greeted(stream, one, 1n)).message.case, 'welcome');
  const ended = once(stream, 'error');
  await revoke(one.instanceId);
  const [failure] = (await ended) as [ServiceError];
  const why = `replica ${one.instanceId} of agent host-1 was revoked`;
  assert.deepEqual([failure.code, failure.details], [Code.Unauthenticated, why]);
  using again = new AgentClient(address, one);
  assert.match((await failureOf(again.control())).details, /serial .* is no longer accepted from agent host-1/);

  using next = new AgentClient(address, other);
  const going = next.control();
  assert.equal((await greeted(going, other, 2n)).message.case, 'welcome');
  const served = desiredState(going);
  await revoke(third.instanceId);
  await putNetwork(context);
  assert.equal((await served).kind, DesiredStateKind.NETWORK);
  assert.deepEqual(await held(), [other.instanceId]);
  const refused = (code: Code) => (error: ConnectError) => error.code === code;
  await assert.rejects(revoke(one.instanceId), refused(Code.NotFound));
  await assert.rejects(revoke(other.instanceId), refused(Code.FailedPrecondition));
  assert.deepEqual(await held(), [other.instanceId]);
  const cancelled = once(going, 'error');
  going.cancel();
  await cancelled;
});

it('hands the trace of a caller on to the agent, though it traces nothing itself', async () => {
  await using controller = await start();
  const context = await contextOf(controller);
  const made = async (client: ConnectClient<typeof TokenService>) => await client.createEnrollmentToken({});
  const { token } = await withConnect(context, TokenService, made, context.token);
  const identity = await enrollAgent(context, 'host-1', parseEnrollmentToken(token).secret);
  using agent = new AgentClient(`localhost:${new URL(context.url).port}`, identity);
  const stream = agent.control();
  assert.equal((await greeted(stream, identity, 0n)).message.case, 'welcome');
  const told = desiredState(stream);
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  await putNetwork(context, { traceparent });
  assert.equal((await told).traceparent, traceparent);
  const cancelled = once(stream, 'error');
  stream.cancel();
  await cancelled;
});

type ControlStream = ReturnType<AgentClient['control']>;

async function nextMessage(stream: ControlStream): Promise<ControllerMessage> {
  const [message] = (await once(stream, 'data')) as [ControllerMessage];
  return message;
}

/** The next desired state; the controller's own heartbeats may come before it, at any time. */
async function desiredState(stream: ControlStream): Promise<DesiredState> {
  for await (const [{ message }] of on(stream, 'data', { close: ['end'] }) as AsyncIterable<[ControllerMessage]>) {
    if (message.case === 'desiredState') return message.value;
  }
  throw new Error('the stream ended before a desired state');
}

/** Wants a network of host-1. */
async function putNetwork(
  context: Awaited<ReturnType<typeof contextOf>>,
  headers: Record<string, string> = {},
): Promise<void> {
  const wanted = { agentId: 'host-1', spec: { name: 'net', interface: 'wg0', addresses: ['10.0.0.1/24'] } };
  await withConnect(context, NetworkService, (client) => client.putNetwork(wanted, { headers }), context.token);
}

/** Says Hello and gives the answer. */
async function greeted(
  stream: ControlStream,
  { agentId, instanceId }: AgentCredentials,
  leaderEpoch: bigint,
): Promise<ControllerMessage> {
  const value = { protocolMin: 1, protocolMax: 1, agentId, instanceId, bootId: randomUUID(), leaderEpoch };
  const answered = nextMessage(stream);
  stream.write(create(AgentMessageSchema, { message: { case: 'hello', value } }));
  return await answered;
}

it('keeps identity, token and agents over a restart', async () => {
  const contexts = [];
  for (let i = 0; i < 2; i++) {
    await using controller = await start();
    const context = await contextOf(controller);
    contexts.push(context);
    await withConnect(context, AgentService, (client) => client.listAgents({}), context.token);
  }
  const [first, second] = contexts;
  assert.deepEqual({ ...second, url: '' }, { ...first, url: '' });
});

it('reflects every service it serves', async () => {
  await using controller = await start();
  const names = await withConnect(await contextOf(controller), ServerReflection, async (client) => {
    const question = async function* () {
      yield { host: '', messageRequest: { case: 'listServices' as const, value: '' } };
    };
    for await (const { messageResponse } of client.serverReflectionInfo(question())) {
      return messageResponse.case === 'listServicesResponse'
        ? messageResponse.value.service.map(({ name }) => name)
        : [];
    }
    return [];
  });
  assert.deepEqual(names, [
    'grpc.health.v1.Health',
    'grpc.reflection.v1.ServerReflection',
    'grpc.reflection.v1alpha.ServerReflection',
    'longline.fleet.v1.AgentService',
    'longline.fleet.v1.JobService',
    'longline.fleet.v1.NetworkService',
    'longline.fleet.v1.ProgramService',
    'longline.fleet.v1.SessionService',
    'longline.fleet.v1.TokenService',
    'longline.link.v1.EnrollmentService',
  ]);
});

it('lets go of everything when a start fails, and says why it did', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => taken.once('listening', resolve));
  const { port } = taken.address() as { port: number };
  await assert.rejects(start({ listen: `127.0.0.1:${port}` }), (error: LonglineError) => {
    return error.reason === 'unavailable' && error.message.includes(`can't bind 127.0.0.1:${port}`);
  });
  await new Promise((resolve) => taken.close(resolve));
  await using _ = await start();
  await assert.rejects(start(), (error: LonglineError) => error.reason === 'already_exists');
});

it('refuses a CA key that others can read', async () => {
  await (await start())[Symbol.asyncDispose]();
  await chmod(join(dataDir, 'ca.pem'), 0o640);
  await assert.rejects(
    start(),
    (error: LonglineError) => error.reason === 'policy' && /mode 0640 .* run: chmod 600/.test(error.message),
  );
});

it('stops twice, and answers nobody afterwards', async () => {
  const controller = await start({ plaintextListen: '127.0.0.1:0' });
  const context = await contextOf(controller);
  assert.ok((controller.plaintextPort ?? 0) > 0);
  await Promise.all([controller[Symbol.asyncDispose](), controller[Symbol.asyncDispose]()]);
  await assert.rejects(
    withConnect(context, AgentService, (client) => client.listAgents({}), context.token),
    (error: ConnectError) => error.code === Code.Unavailable || error.code === Code.Internal,
  );
});

/** Of the certificate that a new connection is shown. */
async function fingerprintOf(url: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
  await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  const { fingerprint256 } = socket.getPeerX509Certificate()!;
  socket.destroy();
  return fingerprint256;
}

it('takes over settings and the certificate file while it runs, or none of it', async () => {
  let parts: ServiceParts | undefined;
  const options = { dataDir, listen: '127.0.0.1:0', logLevel: 'silent', drainWindowMs: 200 } as const;
  const told: string[] = [];
  const tell = (_socket: string | undefined, ...states: readonly string[]) => void told.push(...states);
  await using controller = await runController(
    options,
    {
      openServices: async (given) => {
        parts = given;
        return await openServices(given);
      },
    },
    { NOTIFY_SOCKET: '/run/notify' },
    tell,
  );
  const { keep } = parts!;
  const file = join(dataDir, 'server.pem');
  const [good, first] = [await readFile(file), await fingerprintOf(controller.url)];
  const next = {
    ...options,
    heartbeatMs: 20_000,
    drainWindowMs: 300,
    keep: { events: 7 },
    allowedOrigins: ['https://desks.example.net'],
  };

  await writeFile(file, 'no certificate', { mode: 0o600 });
  await controller.reload(async () => next);
  assert.deepEqual([keep.events, controller.drainWindowMs], [1000, 200], 'settings are not taken without the file');
  assert.equal(await fingerprintOf(controller.url), first);

  await writeFile(file, good, { mode: 0o600 });
  await controller.reload(async () => ({ ...next, keep: { events: 0 } }));
  assert.deepEqual([keep.events, controller.drainWindowMs], [1000, 200], 'nor any if one is bad');

  await rm(file);
  await controller.reload(async () => next);
  assert.deepEqual([keep.events, controller.drainWindowMs], [7, 300]);
  assert.deepEqual([parts!.allowedOrigins, parts!.heartbeatMs], [['https://desks.example.net'], 15_000]);
  assert.notEqual(await fingerprintOf(controller.url), first);

  await controller[Symbol.asyncDispose]();
  const reloads = ['RELOADING=1', 'READY=1'];
  const phases = told.filter((state) => /^(READY|RELOADING|STOPPING)/.test(state));
  assert.deepEqual(phases, ['READY=1', ...reloads, ...reloads, ...reloads, 'STOPPING=1']);
  assert.ok(told.includes('STATUS=agents connected: 0, store: ok'), told.join());
});

it('feeds the watchdog only while its store and its upkeep get on, and says what does not', async () => {
  const upkeep = new Progress('upkeep', systemClock);
  const told: string[] = [];
  const until = async (what: string, found: () => boolean) => {
    for (const endsAt = performance.now() + 60_000; !found(); await delay(5))
      assert.ok(performance.now() < endsAt, what);
  };
  let parts: ServiceParts | undefined;
  await using _ = await runController(
    { dataDir, listen: '127.0.0.1:0', logLevel: 'silent', drainWindowMs: 200 },
    {
      openServices: async (given) => {
        parts = given;
        const services = await openServices(given);
        return { ...services, tasks: () => [...services.tasks(), upkeep] };
      },
    },
    { NOTIFY_SOCKET: '/run/notify', WATCHDOG_USEC: '40000' },
    (_socket, ...states) => void told.push(...states),
  );
  const beats = () => told.filter((state) => state === 'WATCHDOG=1').length;
  await until('beats', () => beats() >= 3);
  upkeep.expect(0, 'expiry');
  await until('word of it', () => told.includes('STATUS=stuck: upkeep: expiry'));
  const before = beats();
  upkeep.rest();
  await until('beats again', () => beats() > before);
  const { progress } = parts!.store.writes;
  let looks = 0;
  await until('word of the store', () => {
    // Once more and again: the store itself writes each second, and says so.
    if (looks++ % 50 === 0) progress.expect(0, 'writes');
    return told.includes('STATUS=stuck: store: writes');
  });
  progress.rest();
});

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { HealthState } from '#gen/longline/local/v1/local_pb.js';
import { LocalServer, type LocalView, type ProgramCalls } from '../../src/agent/local/local-server.ts';
import { LonglineError } from '../../src/core/errors.ts';
import { silentLogger } from '../../src/core/logger.ts';

const run = promisify(execFile);
const buf = join(import.meta.dirname, '../../node_modules/.bin/buf');

const view: LocalView = {
  status: async () => ({ agentId: 'a1', linkState: 'open', controller: 'https://127.0.0.1:1' }),
  health: async () => ({ state: HealthState.DEGRADED, checks: [] }),
  setLogLevel: async ({ level }) => ({ level }),
  commands: async () => ({ commands: [] }),
  explain: async (request) => ({ allowed: request.keyId === 'good' }),
  explainSession: async (request) => ({ allowed: request.keyId === 'good' }),
  reload: async () => {
    throw new LonglineError('policy', '/etc/policy.toml: line 3: unknown key imges; did you mean images?');
  },
};

const programs: ProgramCalls = {
  list: async () => ({ quarantined: ['sha256:aa'] }),
  rollbacks: async () => ({ rollbacks: [] }),
  rollBack: async ({ name, reason }) => {
    throw new LonglineError('not_found', `name: no program ${name} runs here (${reason})`);
  },
  release: async ({ artifact }) => ({ artifacts: [artifact] }),
};

let folder: string;
let server: LocalServer;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-local-'));
  server = new LocalServer(join(folder, 'agent.sock'), { view, programs }, silentLogger);
  await server.open();
  server.setServing(true);
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function curl(method: string, data: string, ...extra: string[]): Promise<unknown> {
  const { stdout } = await run(buf, [
    'curl',
    ...extra,
    '--protocol',
    'grpc',
    '--http2-prior-knowledge',
    '--unix-socket',
    join(folder, 'agent.sock'),
    '--data',
    data,
    `http://localhost/${method}`,
  ]); // prettier-ignore
  return JSON.parse(stdout);
}

test('a generic gRPC tool finds the service by reflection and calls it over the socket', async () => {
  assert.deepEqual(await curl('longline.local.v1.LocalService/GetStatus', '{}'), {
    agentId: 'a1',
    linkState: 'open',
    controller: 'https://127.0.0.1:1',
  });
  const explained = await curl(
    'longline.local.v1.LocalService/ExplainJob',
    '{"keyId":"good","spec":{"argv":["true"]}}',
  );
  assert.deepEqual(explained, { allowed: true });
});

test('both versions of reflection answer, and health tells what serves', async () => {
  for (const protocol of ['grpc-v1', 'grpc-v1alpha']) {
    const answer = await curl('longline.local.v1.LocalService/ListCommands', '{}', '--reflect-protocol', protocol);
    assert.deepEqual(answer, {});
  }
  const health = ['--schema', join(import.meta.dirname, '../../node_modules/grpc-health-check/proto')];
  assert.deepEqual(await curl('grpc.health.v1.Health/Check', '{}', ...health), { status: 'SERVING' });
  assert.deepEqual(await curl('grpc.health.v1.Health/List', '{}', ...health), {
    statuses: { '': { status: 'SERVING' } },
  });
  await assert.rejects(curl('grpc.health.v1.Health/Check', '{"service":"nope"}', ...health), /not_found/);
});

test('programs are told of, rolled back and released', async () => {
  const method = (name: string) => `longline.local.v1.LocalService/${name}`;
  assert.deepEqual(await curl(method('ListPrograms'), '{}'), { quarantined: ['sha256:aa'] });
  assert.deepEqual(await curl(method('ListRollbacks'), '{}'), {});
  const released = await curl(method('ReleaseQuarantine'), '{"artifact":"sha256:aa"}');
  assert.deepEqual(released, { artifacts: ['sha256:aa'] });
  const refused = curl(method('RollBackProgram'), '{"name":"drop","reason":"why"}');
  await assert.rejects(refused, /not_found[\s\S]*no program drop runs here \(why\)/);
});

test('a failure keeps its code and message', async () => {
  await assert.rejects(curl('longline.local.v1.LocalService/Reload', '{}'), (error: { stderr: string }) => {
    assert.match(error.stderr, /permission_denied/);
    assert.match(error.stderr, /unknown key imges/);
    return true;
  });
});

test('only the owner can use the socket', async () => {
  assert.equal((await stat(join(folder, 'agent.sock'))).mode & 0o777, 0o600);
});

test('a second server on a live socket is refused, and the first goes on', async () => {
  const second = new LocalServer(join(folder, 'agent.sock'), { view, programs }, silentLogger);
  await assert.rejects(second.open(), { reason: 'already_exists' });
  await second[Symbol.asyncDispose]();
  assert.deepEqual(await curl('longline.local.v1.LocalService/ListCommands', '{}'), {});
});

test('a path too long for a socket is refused with its length', async () => {
  await using second = new LocalServer(join(folder, 'x'.repeat(120)), { view }, silentLogger);
  await assert.rejects(second.open(), { reason: 'invalid', message: /at most 107/ });
});

test('a file in the place of the socket is left alone', async () => {
  const path = join(folder, 'file');
  await writeFile(path, 'precious');
  await using second = new LocalServer(path, { view }, silentLogger);
  await assert.rejects(second.open(), { reason: 'already_exists', message: /is no socket/ });
  assert.equal(await readFile(path, 'utf8'), 'precious');
});

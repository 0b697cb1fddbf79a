import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { create, fromJson } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { ListProgramsResponseSchema, ListRollbacksResponseSchema } from '#gen/longline/local/v1/local_pb.js';
import { ProgramRollbackTrigger, ProgramState } from '#gen/longline/v1/program_pb.js';
import { AgentHttp } from '../../../src/agent/http/agent-http.ts';
import { programRoutes, versionRoute } from '../../../src/agent/http/agent-routes.ts';
import { httpSettings } from '../../../src/agent/http-settings.ts';
import { resolveConfig } from '../../../src/core/config/resolve.ts';
import { defineConfig } from '../../../src/core/config/setting.ts';
import { type Logger, silentLogger } from '../../../src/core/logger.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';

const PROGRAMS = create(ListProgramsResponseSchema, {
  programs: [
    {
      status: { name: 'drop', state: ProgramState.ACTIVE, current: { number: 3n, version: '1.2.0' } },
      figures: { runs: 5n, cpuPercent: 0.5, packets: 2n ** 60n, endTime: timestampFromMs(0) },
    },
    { status: { name: 'new', state: ProgramState.FETCHED } },
  ],
});
const ROLLBACKS = create(ListRollbacksResponseSchema, {
  rollbacks: [{ id: 'r1', program: 'drop', trigger: ProgramRollbackTrigger.CPU, threshold: 80, value: 95.5 }],
});
const lists = { list: async () => PROGRAMS, rollbacks: async () => ROLLBACKS };

async function read(port: number, path: string) {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  return { status: response.status, json: (await response.json()) as Record<string, unknown> };
}

function agentHttp(port: number, log: Logger = silentLogger, socket?: string): AgentHttp {
  const routes = [versionRoute('agent-1'), ...programRoutes(lists)];
  return new AgentHttp({ port, address: '127.0.0.1', socket, token: undefined }, () => routes, fastClock(1000), log);
}

/** A port that is free until `release`. */
async function takePort() {
  const holder = createServer();
  holder.listen(0, '127.0.0.1');
  await once(holder, 'listening');
  const address = holder.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const release = async () => {
    const closed = once(holder, 'close');
    holder.close();
    await closed;
  };
  return { port, release };
}

describe('local HTTP API', () => {
  it('tells version, programs, rollbacks and telemetry', async () => {
    const { port, release } = await takePort();
    await release();
    await using http = agentHttp(port);
    await http.open();
    const { json: version } = await read(port, '/version');
    assert.deepEqual(Object.keys(version), ['version', 'build', 'node', 'platform', 'agentId']);
    assert.equal(version['agentId'], 'agent-1');
    const { json: programs } = await read(port, '/programs');
    assert.deepEqual(fromJson(ListProgramsResponseSchema, programs as never), PROGRAMS);
    const { json: rollbacks } = await read(port, '/rollbacks');
    assert.deepEqual(fromJson(ListRollbacksResponseSchema, rollbacks as never), ROLLBACKS);
    const { json: telemetry } = await read(port, '/telemetry');
    const [only, ...more] = telemetry['telemetry'] as Record<string, Record<string, unknown>>[];
    assert.deepEqual(more, [], 'what was never measured has none');
    assert.deepEqual([only!['name'], only!['state']], ['drop', 'PROGRAM_STATE_ACTIVE']);
    assert.deepEqual([only!['figures']!['packets'], only!['figures']!['cpuPercent']], [String(2n ** 60n), 0.5]);
    assert.equal(only!['figures']!['errors'], '0', 'nothing is left out for being nothing');
  });

  it('is served on a unix socket too, where whoever may open it reads everything', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'longline-http-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const socket = join(folder, 'http.sock');
    await using http = agentHttp(0, silentLogger, socket);
    await http.open();
    assert.equal(http.port, undefined);
    assert.equal((await stat(socket)).mode & 0o777, 0o600);
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
    // Behind a proxy a port would trust nobody.
    const headers = { 'x-forwarded-for': '192.0.2.1' };
    request({ socketPath: socket, path: '/programs', headers }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on('error', reject)
      .end();
    assert.equal(await promise, 200);
  });

  it('waits for a port that is taken, and does not hold up who opens it', async () => {
    const { port, release } = await takePort();
    const warnings: string[] = [];
    const { promise: served, resolve } = Promise.withResolvers<void>();
    const log: Logger = {
      ...silentLogger,
      warn: (message, fields) => void warnings.push(`${message}: ${JSON.stringify(fields)}`),
      info: () => resolve(),
      child: () => log,
    };
    await using http = agentHttp(port, log);
    await http.open();
    assert.equal(http.port, undefined);
    assert.match(warnings.join(), new RegExp(`127\\.0\\.0\\.1:${port}: another process has it \\(EADDRINUSE\\)`));
    assert.match(warnings.join(), /"setting":"http\.port".*give this agent another http\.port \(0 for none\)/);
    await release();
    await served;
    assert.equal((await read(port, '/version')).status, 200);
    assert.equal(warnings.length, 1, 'said once');
  });

  it('leaves a place to another and takes it back, and tells what is shown at the time', async () => {
    const { port, release } = await takePort();
    await release();
    let routes = [versionRoute('first')];
    const config = { port, address: '127.0.0.1', socket: undefined, token: undefined };
    await using http = new AgentHttp(config, () => routes, fastClock(1000), silentLogger);
    await http.open();
    const agentId = async () => (await read(port, '/version')).json['agentId'];
    assert.equal(await agentId(), 'first');
    routes = [versionRoute('second')];
    assert.equal(await agentId(), 'second', 'without a new server');
    await http.open(new Set(['http.port']));
    assert.equal(http.port, undefined);
    await using other = agentHttp(port);
    await other.open();
    assert.equal(other.port, port);
    await http.open();
    assert.equal(http.port, undefined, 'it waits for the other one');
    await other[Symbol.asyncDispose]();
    const endsAt = performance.now() + 20_000;
    while (http.port === undefined && performance.now() < endsAt) await new Promise(setImmediate);
    assert.equal(http.port, port);
    assert.equal(await agentId(), 'second');
    // However fast minds are changed, the last word counts.
    await Promise.all([http.open(new Set(['http.port'])), http.open(), http.open(new Set(['http.port'])), http.open()]);
    assert.equal(await agentId(), 'second');
    await http[Symbol.asyncDispose]();
    await http.open();
    assert.equal(http.port, undefined, 'what is over is not opened');
  });

  it('ends while it waits for a port, and is none at port 0', async () => {
    const { port, release } = await takePort();
    const waiting = agentHttp(port);
    await waiting.open();
    await waiting[Symbol.asyncDispose]();
    await release();
    await using none = agentHttp(0);
    await none.open();
    assert.equal(none.port, undefined);
  });

  it('is set up by the variables of others too, and kept on loopback unless somebody says otherwise', () => {
    const schema = defineConfig('agent', { http: httpSettings });
    const resolved = (env: Record<string, string>, text = '') => {
      const result = resolveConfig(schema, { env, file: { path: 'a.toml', text }, readSecret: () => '' });
      return result.ok ? result.config.http : result.problems.map(({ key }) => key);
    };
    const plain = { port: 8080, address: '127.0.0.1', socket: undefined, token: undefined };
    assert.deepEqual(resolved({}), plain);
    assert.deepEqual(resolved({ AGENT_HTTP_PORT: '9090', AGENT_HTTP_ADDRESS: '::' }), {
      ...plain,
      port: 9090,
      address: '::',
    });
    assert.deepEqual(resolved({ AGENT_HTTP_ADDRESS: '' }), plain, 'an empty variable says nothing');
    assert.deepEqual(resolved({}, '[http]\naddress = ""\nport = 0'), { ...plain, port: 0, address: '' });
    assert.deepEqual(resolved({ LONGLINE_HTTP_TOKEN: 'short', AGENT_HTTP_PORT: '70000' }), ['http.port', 'http.token']);
  });
});

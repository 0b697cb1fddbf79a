// Figures of a whole controller, over the two ways in which scrapers reach them.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type RequestOptions, request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { AgentService } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { Role, TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { compileControllerOptions } from '../../../src/controller/config.ts';
import { type Controller, runController } from '../../../src/controller/controller.ts';
import { ControllerMetrics } from '../../../src/controller/metrics/controller-metrics.ts';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { parseEnrollmentToken } from '../../../src/core/enrollment-token.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { CONTROLLER_METRICS } from '../../../src/telemetry/metrics/controller-names.ts';
import { enrollAgent, withConnect } from '../front/agent-client.ts';

interface Context {
  readonly url: string;
  readonly token: string;
  readonly ca: string;
  readonly controller_id: string;
}

let root: string;
let controller: Controller;
let context: Context;
let stack: AsyncDisposableStack;

async function start(dataDir: string, metricsListen: string): Promise<Controller> {
  return await runController({
    dataDir: join(root, dataDir),
    listen: '127.0.0.1:0',
    metricsListen,
    logLevel: 'silent',
    drainWindowMs: 200,
  });
}

before(async () => {
  stack = new AsyncDisposableStack();
  root = await mkdtemp(join(tmpdir(), 'll-metrics-'));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  controller = stack.use(await start('shared', '127.0.0.1:0'));
  context = JSON.parse(await readFile(controller.contextPath, 'utf8')) as Context;
});
after(() => stack.disposeAsync());

/** GET over the operators' port. */
async function operators(path: string, options: RequestOptions = {}) {
  const { promise, resolve, reject } = Promise.withResolvers<import('node:http').IncomingMessage>();
  request(`${context.url}${path}`, { ca: context.ca, agent: false, ...options }, resolve)
    .on('error', reject)
    .end();
  const response = await promise;
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() };
}

async function scrape(): Promise<string> {
  return await (await fetch(`http://127.0.0.1:${controller.metricsPort}/metrics`)).text();
}

describe('figures of a controller', () => {
  it('are told on the operators port to whoever shows a token of any role, and to nobody else', async () => {
    const { token } = await withConnect(
      context,
      TokenService,
      (client) => client.createApiToken({ name: 'scraper', role: Role.VIEWER }),
      context.token,
    );
    const bearer = (shown: string) => ({ headers: { authorization: `Bearer ${shown}` } });
    const told = await operators('/metrics', bearer(token));
    assert.equal(told.status, 200);
    assert.equal(told.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
    assert.match(told.body, /^longline_build_info\{part="controller",/m);
    const none = await operators('/metrics');
    assert.deepEqual([none.status, none.headers['www-authenticate']], [401, 'Bearer']);
    assert.equal((await operators('/metrics', bearer(`${token}x`))).status, 401);
    assert.equal((await operators('/metrics', { ...bearer(token), method: 'POST' })).status, 405);
    const head = await operators('/metrics', { ...bearer(token), method: 'HEAD' });
    assert.deepEqual([head.status, head.body], [200, '']);
    assert.equal((await operators('/elsewhere')).status, 404);
  });

  it('are told on a port of their own without a token, in the format that is asked for', async () => {
    const response = await fetch(`http://127.0.0.1:${controller.metricsPort}/metrics`, {
      headers: { accept: 'application/openmetrics-text;version=1.0.0,text/plain;q=0.5' },
    });
    assert.equal(response.headers.get('content-type'), 'application/openmetrics-text; version=1.0.0; charset=utf-8');
    assert.ok((await response.text()).endsWith('# EOF\n'));
    const other = await fetch(`http://127.0.0.1:${controller.metricsPort}/`);
    assert.equal(other.status, 404);
    await other.body?.cancel();
  });

  it('count calls, enrolments and what is stored', async () => {
    const { token } = await withConnect(
      context,
      TokenService,
      (client) => client.createEnrollmentToken({}),
      context.token,
    );
    await enrollAgent(context, 'host-1', parseEnrollmentToken(token).secret);
    await assert.rejects(enrollAgent(context, 'host-2', parseEnrollmentToken(token).secret));
    await assert.rejects(
      withConnect(context, AgentService, (client) => client.getAgent({ agentId: 'none' }), context.token),
    );
    await assert.rejects(withConnect(context, AgentService, (client) => client.listAgents({})));
    const endsAt = performance.now() + 20_000;
    let text = await scrape();
    // What is stored is counted again after some seconds only.
    while (!/^longline_controller_agents\{state="enrolled"\} 1$/m.test(text) && performance.now() < endsAt) {
      text = await scrape();
    }
    assert.match(text, /^longline_controller_agents\{state="enrolled"\} 1$/m);
    assert.match(text, /^longline_controller_agents\{state="online"\} 0$/m);
    assert.match(text, /^longline_controller_enrolments_total\{what="enrol",result="succeeded"\} 1$/m);
    assert.match(text, /^longline_controller_enrolments_total\{what="enrol",result="identity"\} 1$/m);
    const call = (method: string, code: string) =>
      new RegExp(
        `^longline_controller_api_requests_total\\{method="longline\\.fleet\\.v1\\.${method}",code="${code}"\\} 1$`,
        'm',
      );
    assert.match(text, call('AgentService/GetAgent', 'not_found'));
    assert.match(text, call('AgentService/ListAgents', 'unauthenticated'));
    assert.match(text, /^longline_controller_api_requests_in_flight 0$/m);
    assert.match(text, /^longline_controller_store_seconds_count\{operation="write"\} [1-9]/m);
    const names = new Set(CONTROLLER_METRICS.map(({ name }) => name));
    for (const [, name] of text.matchAll(/^# TYPE (\S+) /gm)) assert.ok(names.has(name!), `${name} is in no list`);
  });

  it('are there for many who ask at one time', async () => {
    const answers = await Promise.all(Array.from({ length: 40 }, () => scrape()));
    for (const text of answers) assert.match(text, /^longline_build_info/m);
  });
});

describe('figures of a controller that starts', () => {
  it('are all there at the first scrape that is answered', async () => {
    const holder = createServer();
    holder.listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as import('node:net').AddressInfo;
    const closed = once(holder, 'close');
    holder.close();
    await closed;
    let first: string | undefined;
    const scraping = (async () => {
      const endsAt = performance.now() + 20_000;
      while (first === undefined && performance.now() < endsAt) {
        const response = await fetch(`http://127.0.0.1:${port}/metrics`).catch(() => undefined);
        if (response !== undefined) first = `${response.status} ${await response.text()}`;
      }
    })();
    await using starting = await start('starting', `127.0.0.1:${port}`);
    await scraping;
    const later = await (await fetch(`http://127.0.0.1:${starting.metricsPort}/metrics`)).text();
    const names = (text: string) => [...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name);
    assert.match(first ?? 'never answered', /^200 /);
    assert.deepEqual(names(first!), names(later));
  });
});

describe('figures of a controller with a strange fleet', () => {
  it('stay bounded, and right in sum', async () => {
    using metrics = new ControllerMetrics(systemClock, silentLogger);
    const states = Array.from({ length: 10_000 }, (_, kind) => ({
      kind: 1_000 + kind,
      wanted: 1,
      pending: 0,
      refused: 0,
    }));
    await using store = openSqliteStore(join(root, 'strange.db'));
    const empty = await store.counts.count();
    metrics.measureStore({ count: async () => ({ ...empty, states }) });
    for (let turn = 0; turn < 10_000; turn += 1) metrics.link.ended(100_000 + turn);
    const families = await metrics.registry.collect();
    const of = (name: string) => families.find(({ definition }) => definition.name === name)!.samples;
    const sum = (name: string) => of(name).reduce((total, { value }) => total + (value as number), 0);
    assert.equal(of('longline_controller_desired_states').length, 65);
    assert.equal(sum('longline_controller_desired_states'), 10_000);
    assert.deepEqual(of('longline_controller_results_total').length, 1, 'states that nobody knows are one');
    assert.deepEqual(
      of('longline_metrics_overflows_total').map(({ labels }) => labels[0]),
      ['longline_controller_desired_states'],
    );
  });
});

describe('port of figures', () => {
  it('that is taken is an error at the start, and the start leaves nothing behind', async () => {
    const holder = createServer();
    holder.listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as import('node:net').AddressInfo;
    const address = `127.0.0.1:${port}`;
    await assert.rejects(start('taken', address), (error: Error) => {
      assert.match(
        error.message,
        new RegExp(`^metrics-listen: can't bind ${address}: .*EADDRINUSE.*; name another port`),
      );
      return true;
    });
    const closed = once(holder, 'close');
    holder.close();
    await closed;
    await using again = await start('taken', address);
    assert.equal(again.metricsPort, port);
  });

  it('must be on this host', () => {
    const options = { dataDir: 'x', metricsListen: '0.0.0.0:9464' };
    assert.throws(
      () => compileControllerOptions(options),
      /metrics-listen: is 0\.0\.0\.0:9464; it asks nobody who they are/,
    );
    assert.equal(compileControllerOptions({ dataDir: 'x' }).metricsListen, undefined);
  });
});

describe('counts of a store', () => {
  it('are all zero in an empty one', async () => {
    await using store = openSqliteStore(join(root, 'empty.db'));
    assert.deepEqual(await store.counts.count(), {
      agents: {},
      commands: {},
      jobs: {},
      sessions: {},
      states: [],
      programs: 0,
      assignments: 0,
      rollouts: [],
      meshes: 0,
      members: 0,
      rotations: {},
      oldestRotationAtMs: undefined,
      oldestUnsentAtMs: undefined,
    });
  });
});

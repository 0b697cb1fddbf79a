import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { LocalProgramSchema } from '#gen/longline/local/v1/local_pb.js';
import type { HealthReport } from '../../../src/agent/health/agent-health.ts';
import type { CheckState } from '../../../src/agent/health/check.ts';
import { healthRoutes } from '../../../src/agent/health/health-routes.ts';
import { statusRoute } from '../../../src/agent/http/status-route.ts';
import { type NetworkView, NO_PASSES } from '../../../src/capabilities/network/status.ts';
import { ManualClock } from '../../fixtures/manual-clock.ts';

const clock = new ManualClock();
const PEER = { name: 'hub', publicKey: 'K', endpoint: undefined, prefixes: [], health: 'active' } as const;
const NETWORK: NetworkView = {
  ...{ name: 'mesh', source: 'controller', interface: 'wg0', state: 'up', backend: 'kernel', keys: [], keyEpoch: 1 },
  ...{
    listenPort: 51820,
    addresses: [],
    mtu: 1420,
    problems: [],
    counts: { active: 1, idle: 0, suspect: 0, stale: 0 },
  },
  peers: [
    {
      ...PEER,
      ...{ lastHandshakeMs: clock.now() - 42_000, receivedBytes: 7, sentBytes: 9, keepaliveSecs: 25 },
      ...{ hasPresharedKey: false, foreign: false },
    },
  ],
  ...{ receivedBytes: 7, sentBytes: 9, handshakes: 3, recoveries: 0, reconciledAtMs: undefined },
  passes: NO_PASSES,
};

function reportOf(states: Readonly<Record<string, CheckState>>, unready?: string): HealthReport {
  const checks = Object.entries(states).map(([name, state]) => ({
    name,
    state,
    reason: `why ${name}`,
    mend: 'mend',
    sinceMs: 0,
  }));
  const order = ['ok', 'degraded', 'failed'] as const;
  const state = order.findLast((one) => checks.some((check) => check.state === one)) ?? 'ok';
  return { state, checks, unready };
}

async function ask(path: string, report: HealthReport, trusted = true) {
  const routes = healthRoutes({ health: { report: async () => report }, networks: async () => [NETWORK], clock });
  const route = routes.find((one) => one.path === path);
  assert.ok(route?.open, `${path} is open`);
  const { status, body } = await route.answer({ trusted, accept: undefined });
  return { status, json: JSON.parse(body) as Record<string, unknown> };
}

describe('health over HTTP', () => {
  it('is 200 while nothing has failed, and 503 with the reason if something has', async () => {
    const well = await ask('/healthz', reportOf({ event_loop: 'ok', jobs: 'degraded' }));
    assert.deepEqual([well.status, well.json['status']], [200, 'degraded']);
    const { status, json } = await ask('/healthz', reportOf({ data_folder: 'failed', jobs: 'ok' }));
    assert.deepEqual([status, json['status']], [503, 'failed']);
    assert.deepEqual((json['checks'] as unknown[])[0], {
      name: 'data_folder',
      state: 'failed',
      reason: 'why data_folder',
      mend: 'mend',
      sinceTime: '1970-01-01T00:00:00.000Z',
    });
  });

  it('tells age of handshakes and traffic of each network', async () => {
    const { json } = await ask('/healthz', reportOf({}));
    assert.deepEqual(json['networks'], [
      {
        ...{ name: 'mesh', state: 'up', interface: 'wg0', handshakeAgeSecs: 42, receivedBytes: 7, sentBytes: 9 },
        ...{ handshakes: 3, peers: { active: 1, idle: 0, suspect: 0, stale: 0 } },
      },
    ]);
  });

  it('tells others no more than which check is well', async () => {
    const { status, json } = await ask('/healthz', reportOf({ jobs: 'failed' }), false);
    assert.equal(status, 503);
    assert.deepEqual(json, { status: 'failed', checks: [{ name: 'jobs', state: 'failed' }] });
  });

  it('asks for a restart only where that helps', async () => {
    assert.equal((await ask('/livez', reportOf({ data_folder: 'failed', tasks: 'ok', jobs: 'failed' }))).status, 200);
    assert.equal((await ask('/livez', reportOf({ tasks: 'failed' }))).status, 503);
    assert.equal((await ask('/livez', reportOf({ event_loop: 'failed' }))).status, 503);
  });

  it('says whether the agent takes work, and why not', async () => {
    assert.deepEqual(await ask('/readyz', reportOf({ jobs: 'failed' })), { status: 200, json: { ready: true } });
    const starting = await ask('/readyz', reportOf({}, 'the link was not open yet'));
    assert.deepEqual(starting, { status: 503, json: { ready: false, reason: 'the link was not open yet' } });
  });

  it('tells status with health and what is applied, and for how long', async () => {
    const program = create(LocalProgramSchema, {
      status: {
        name: 'drop',
        current: { number: 3n, artifact: 'sha256:aa', version: '1.2.0' },
        expireTime: timestampFromMs(clock.now() + 90_000),
      },
    });
    const waiting = create(LocalProgramSchema, { status: { name: 'new' } });
    const route = statusRoute({
      view: { status: async () => ({ agentId: 'a1', linkState: 'open' }) },
      programs: { list: async () => ({ programs: [program, waiting] }) },
      health: { report: async () => reportOf({ jobs: 'degraded' }) },
      now: () => clock.now(),
    });
    assert.equal(route.open, false);
    const { status, body } = await route.answer({ trusted: true, accept: undefined });
    const json = JSON.parse(body) as Record<string, unknown>;
    assert.deepEqual([status, json['agentId'], json['linkState']], [200, 'a1', 'open']);
    assert.equal((json['health'] as Record<string, unknown>)['status'], 'degraded');
    const [only, ...more] = json['artifacts'] as Record<string, unknown>[];
    assert.deepEqual(more, [], 'what does not run is not applied');
    const expireTime = new Date(clock.now() + 90_000).toISOString();
    const expected = { program: 'drop', artifact: 'sha256:aa', version: '1.2.0', expireTime, ttlSecs: 90 };
    assert.deepEqual(only, expected);
  });
});

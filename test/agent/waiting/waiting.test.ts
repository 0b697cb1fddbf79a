// What a process tells while no agent of it serves.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { LeadershipView } from '../../../src/agent/ha/leadership.ts';
import { AgentMetrics } from '../../../src/agent/metrics/agent-metrics.ts';
import { Waiting } from '../../../src/agent/waiting/waiting.ts';
import { waitingRoutes } from '../../../src/agent/waiting/waiting-routes.ts';
import { type Logger, silentLogger } from '../../../src/core/logger.ts';
import { createLogger } from '../../../src/telemetry/logger.ts';
import { ManualClock } from '../../fixtures/manual-clock.ts';

const STANDBY: LeadershipView = {
  ...{ role: 'standby', epoch: 4n, leader: 'host-2/7/x', backend: 'redis', problem: '', problemMs: 0 },
  ...{ asked: true, roleMs: 60_000 },
};

function setUp(t: { after(done: () => void): void }) {
  const clock = new ManualClock();
  const stopping = new AbortController();
  const levels = createLogger({ level: 'info', name: 'agent', destination: { write: () => undefined } });
  const waiting = new Waiting({
    config: { agentId: 'a1', controllerUrl: 'https://c', ha: { ttlMs: 10_000 } as never },
    pulse: { late: () => ({ worstMs: 0, totalMs: 0 }) },
    levels,
    clock,
    signal: stopping.signal,
  });
  const metrics = new AgentMetrics(clock, silentLogger as Logger);
  t.after(() => metrics[Symbol.dispose]());
  const routes = waitingRoutes(waiting, { agentId: 'a1', clock, figures: metrics.route() });
  const ask = async (path: string, trusted = true) => {
    const route = routes.find((one) => one.path === path);
    const { status, body, type } = await route!.answer({ trusted, accept: undefined });
    return { status, body, json: type === 'application/json' ? JSON.parse(body) : undefined };
  };
  /** A moment later, as findings are told again for a second. */
  const standing = (view: Partial<LeadershipView>) => {
    clock.advance(2_000);
    waiting.elects(() => ({ ...STANDBY, ...view }));
  };
  return { ask, standing, stopping, waiting, levels };
}

describe('a process that waits', () => {
  it('is well and not ready while it starts, and has no figures yet: it says so', async (t) => {
    const { ask, stopping } = setUp(t);
    const { status, json } = await ask('/healthz');
    assert.deepEqual([status, json.status, json.role], [200, 'ok', undefined]);
    assert.deepEqual((await ask('/livez')).status, 200);
    assert.deepEqual((await ask('/readyz')).json, { ready: false, reason: 'the agent is starting' });
    assert.deepEqual((await ask('/leader')).status, 503);
    const figures = await ask('/metrics');
    assert.deepEqual(
      [figures.status, figures.body],
      [503, 'the agent is starting; its figures are told once it works\n'],
    );
    const programs = await ask('/programs');
    assert.deepEqual([programs.status, programs.json.reason], [503, 'the agent is starting; ask again']);
    assert.equal((await ask('/version')).json.agentId, 'a1');
    assert.equal((await ask('/status')).json.linkReason, 'the agent is starting');
    stopping.abort();
    assert.deepEqual((await ask('/readyz')).json, { ready: false, reason: 'the agent is stopping' });
  });

  it('is ready to take over as a standby that knows who leads, and only then', async (t) => {
    const { ask, standing } = setUp(t);
    standing({ asked: false, leader: '' });
    assert.deepEqual((await ask('/readyz')).json, {
      ...{ ready: false, role: 'standby', reason: 'this replica has not asked yet who leads' },
    });
    standing({});
    assert.deepEqual(await ask('/readyz').then(({ status }) => status), 200);
    assert.deepEqual((await ask('/leader')).json, { leads: false, reason: 'this replica stands by' });
    const { json } = await ask('/healthz');
    assert.deepEqual([json.role, json.leadership.leader, json.leadership.epoch], ['standby', 'host-2/7/x', '4']);
    assert.equal((await ask('/healthz', false)).json.leadership, undefined, 'who leads is not for everybody');
    assert.equal((await ask('/metrics')).status, 200);
    assert.match((await ask('/programs')).json.reason, /stands by; ask the leader, host-2\/7\/x/);
    standing({ problem: 'Redis is away', problemMs: 20_000 });
    assert.equal((await ask('/readyz')).json.reason, "this replica can't take over: Redis is away");
    const failed = await ask('/healthz');
    assert.deepEqual([failed.status, failed.json.status], [503, 'failed']);
    standing({ role: 'leader' });
    assert.equal((await ask('/readyz')).json.reason, 'this replica leads and is taking over');
    assert.equal((await ask('/leader')).status, 503, 'not yet');
  });

  it('answers local calls that it can answer, and says of the others who can', async (t) => {
    const { standing, waiting, levels } = setUp(t);
    await assert.rejects(waiting.view.commands(), {
      reason: 'unavailable',
      message: 'the agent is starting; ask again',
    });
    standing({});
    const health = await waiting.view.health();
    assert.deepEqual([health.ready, health.checks?.map(({ name }) => name)], [true, ['event_loop', 'election']]);
    assert.deepEqual((await waiting.view.status()).linkReason, 'this replica stands by');
    await waiting.view.setLogLevel({ level: 'debug', part: '' } as never);
    assert.equal(levels.level, 'debug');
    const { networks, programs } = waiting.local;
    const refused = { reason: 'wrong_state', message: 'this replica stands by; ask the leader, host-2/7/x' };
    for (const call of [networks!.list(), programs!.list(), waiting.view.reload()]) await assert.rejects(call, refused);
  });
});

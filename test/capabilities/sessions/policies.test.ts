import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { type IdlePolicy, idleStep, isBusy } from '../../../src/capabilities/sessions/idle.ts';
import { type RestartPolicy, restartDecision } from '../../../src/capabilities/sessions/restart-policy.ts';
import { describeState, holds } from '../../../src/capabilities/sessions/state.ts';

const LADDER: IdlePolicy = { pauseAfterMs: 60_000, stopAfterMs: 600_000, maxCpus: 0.05, maxNetworkBytes: 65_536 };
const RUNNING = { kind: 'running' } as const;
const PAUSED = { kind: 'asleep', tier: 'pause' } as const;

suite('the idle ladder', () => {
  test('pauses first, stops later, and says when to look again', () => {
    assert.deepEqual(idleStep(RUNNING, LADDER, 1000, 1000), { kind: 'wait', atMs: 61_000 });
    assert.deepEqual(idleStep(RUNNING, LADDER, 1000, 61_000), { kind: 'hibernate', tier: 'pause' });
    assert.deepEqual(idleStep(PAUSED, LADDER, 1000, 61_000), { kind: 'wait', atMs: 601_000 });
    assert.deepEqual(idleStep(PAUSED, LADDER, 1000, 601_000), { kind: 'hibernate', tier: 'stop' });
    assert.deepEqual(idleStep({ kind: 'asleep', tier: 'stop' }, LADDER, 0, 1e9), { kind: 'wait', atMs: undefined });
  });

  test('skips the pause when the stop is due, and does nothing without a policy or while something is under way', () => {
    assert.deepEqual(idleStep(RUNNING, LADDER, 0, 700_000), { kind: 'hibernate', tier: 'stop' });
    const never = { ...LADDER, pauseAfterMs: undefined, stopAfterMs: undefined };
    assert.deepEqual(idleStep(RUNNING, never, 0, 1e12), { kind: 'wait', atMs: undefined });
    for (const kind of ['starting', 'waking', 'stopping', 'ended', 'failed'] as const) {
      assert.deepEqual(idleStep({ kind }, LADDER, 0, 1e12), { kind: 'wait', atMs: undefined });
    }
  });

  test('calls a session busy above either threshold only', () => {
    assert.equal(isBusy({ cpuCores: 0.05, networkBytesPerMinute: 65_536 }, LADDER), false);
    assert.equal(isBusy({ cpuCores: 0.06, networkBytesPerMinute: 0 }, LADDER), true);
    assert.equal(isBusy({ cpuCores: 0, networkBytesPerMinute: 65_537 }, LADDER), true);
  });
});

const POLICY: RestartPolicy = {
  when: 'on_failure',
  maxRestarts: 10,
  backoffMs: 1000,
  maxBackoffMs: 60_000,
  resetAfterMs: 600_000,
};
const CRASH = { exitCode: 1, oomKilled: false, unhealthy: false, ranMs: 10, restarts: 0 };

suite('the restart policy', () => {
  test('leaves a good end alone unless it is to run always', () => {
    const good = { ...CRASH, exitCode: 0 };
    assert.equal(restartDecision(good, POLICY).kind, 'leave');
    assert.equal(restartDecision(good, { ...POLICY, when: 'always' }).kind, 'restart');
    assert.equal(restartDecision(CRASH, { ...POLICY, when: 'never' }).kind, 'leave');
  });

  test('a memory kill of a child, and an end nobody saw, are failures', () => {
    assert.equal(restartDecision({ ...CRASH, exitCode: 0, oomKilled: true }, POLICY).kind, 'restart');
    assert.equal(restartDecision({ ...CRASH, exitCode: undefined }, POLICY).kind, 'restart');
  });

  test('spaces restarts further and further, up to the cap, and gives up in the end', () => {
    let restarts = 0;
    const delays: number[] = [];
    for (;;) {
      const decision = restartDecision({ ...CRASH, restarts }, POLICY, () => 1);
      if (decision.kind !== 'restart') {
        assert.deepEqual(decision, { kind: 'give_up', restarts: 10 });
        break;
      }
      delays.push(decision.delayMs);
      restarts = decision.restarts;
    }
    assert.deepEqual(delays, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000]);
  });

  test('begins anew after a long run', () => {
    const decision = restartDecision({ ...CRASH, restarts: 10, ranMs: 600_000 }, POLICY, () => 0);
    assert.deepEqual(decision, { kind: 'restart', delayMs: 500, restarts: 1 });
  });

  test('never restarts at once, and never later than the cap', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), (restarts, random) => {
        const decision = restartDecision({ ...CRASH, restarts }, { ...POLICY, maxRestarts: 0 }, () => random);
        assert.ok(decision.kind === 'restart' && decision.delayMs >= 500 && decision.delayMs <= 60_000);
      }),
    );
  });
});

suite('states', () => {
  test('say what a session holds', () => {
    assert.equal(holds({ kind: 'running' }), 'all');
    assert.equal(holds({ kind: 'restarting', dueAtMs: 0 }), 'all');
    assert.equal(holds(PAUSED), 'memory');
    assert.equal(holds({ kind: 'asleep', tier: 'stop' }), 'nothing');
    assert.equal(holds({ kind: 'failed' }), 'nothing');
    assert.equal(describeState(PAUSED), 'asleep (pause)');
  });
});

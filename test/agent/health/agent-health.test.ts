import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AgentHealth } from '../../../src/agent/health/agent-health.ts';
import { type Check, type Finding, fine } from '../../../src/agent/health/check.ts';
import { ManualClock } from '../../fixtures/manual-clock.ts';

const degraded: Finding = { state: 'degraded', reason: 'slow', mend: 'wait' };
const failed: Finding = { state: 'failed', reason: 'gone', mend: 'bring it back' };

function healthOf(checks: readonly Check[], clock = new ManualClock()) {
  return { clock, health: new AgentHealth({ checks, clock, unready: () => undefined }) };
}

describe('health of the agent', () => {
  it('is the worst of all checks, in the order of the table', async () => {
    const findings: Record<string, Finding> = { a: fine('well'), b: fine('well'), c: fine('well') };
    const names = ['a', 'b', 'c'];
    const { health, clock } = healthOf(names.map((name) => ({ name, look: () => findings[name]! })));
    assert.equal((await health.report()).state, 'ok');
    findings['b'] = degraded;
    assert.equal((await health.report()).state, 'ok', 'a second look within a second is not another look');
    clock.advance(1000);
    assert.equal((await health.report()).state, 'degraded');
    findings['c'] = failed;
    clock.advance(1000);
    const { state, checks } = await health.report();
    assert.deepEqual([state, checks.map(({ name }) => name)], ['failed', names]);
    assert.deepEqual({ ...checks[2], sinceMs: 0 }, { name: 'c', ...failed, sinceMs: 0 });
    assert.equal((await healthOf([]).health.report()).state, 'ok');
  });

  it('says since when a check is as it is', async () => {
    let now: Finding = fine('well');
    const { health, clock } = healthOf([{ name: 'a', look: () => now }]);
    const since = async () => (await health.report()).checks[0]!.sinceMs;
    const first = await since();
    clock.advance(5000);
    now = fine('still well, otherwise');
    assert.equal(await since(), first);
    now = failed;
    clock.advance(5000);
    assert.equal(await since(), clock.now());
  });

  it('takes a check that throws for failed, with the reason', async () => {
    const broken = {
      name: 'broken',
      look: () => {
        throw new Error('no such folder');
      },
    };
    const { health } = healthOf([broken, { name: 'well', look: () => fine('well') }]);
    const { checks } = await health.report();
    assert.deepEqual([checks[0]!.state, checks[1]!.state], ['failed', 'ok']);
    assert.match(checks[0]!.reason, /no such folder/);
  });

  it('waits for no check that hangs, and does not begin it again before it has ended', async () => {
    let begun = 0;
    const answer = Promise.withResolvers<Finding>();
    const hangs: Check = {
      name: 'engine',
      look: () => {
        begun += 1;
        return answer.promise;
      },
    };
    const { health, clock } = healthOf([hangs]);
    const [one, two] = await Promise.all([health.report(), health.report()]);
    assert.deepEqual([one.state, two.state, begun], ['failed', 'failed', 1]);
    assert.match(one.checks[0]!.reason, /no answer within 2 s/);
    clock.advance(1000);
    const third = health.report();
    answer.resolve(fine('it is back'));
    assert.deepEqual([(await third).state, begun], ['ok', 1]);
    clock.advance(1000);
    await health.report();
    assert.equal(begun, 2);
  });
});

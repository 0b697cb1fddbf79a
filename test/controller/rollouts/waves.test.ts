import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { assignWaves, waveTotals } from '../../../src/controller/rollouts/waves.ts';

const percents = fc
  .uniqueArray(fc.integer({ min: 1, max: 99 }), { maxLength: 12 })
  .map((some) => [...some.sort((one, other) => one - other), 100]);
const candidates = fc
  .uniqueArray(fc.string({ minLength: 1 }), { maxLength: 60 })
  .chain((ids) => fc.tuple(...ids.map((agentId) => fc.boolean().map((online) => ({ agentId, online })))));

describe('waves of a rollout', () => {
  it('hold whole percents, at least one agent each, and end with all', () => {
    assert.deepEqual(waveTotals([5, 25, 100], 100), [5, 25, 100]);
    assert.deepEqual(waveTotals([5, 25, 100], 7), [1, 2, 7]);
    assert.deepEqual(waveTotals([50, 55, 100], 10), [5, 6, 10]);
    assert.deepEqual(waveTotals([1, 2, 3, 100], 2), [1, 2]);
    assert.deepEqual(waveTotals([5, 100], 1), [1]);
    assert.deepEqual(waveTotals([100], 0), [0]);
    fc.assert(
      fc.property(percents, fc.integer({ min: 1, max: 5000 }), (waves, agents) => {
        const totals = waveTotals(waves, agents);
        assert.equal(totals.at(-1), agents);
        for (const [place, total] of totals.entries()) {
          const before = totals[place - 1] ?? 0;
          assert.ok(total > before);
          assert.ok(total <= Math.max(Math.floor((agents * waves[place]!) / 100), before + 1));
        }
      }),
    );
  });

  it('begin with agents that are there, in an order that is always the same', () => {
    fc.assert(
      fc.property(percents, candidates, (waves, agents) => {
        const { waveOf, waves: count } = assignWaves('drop', waves, agents);
        assert.deepEqual(assignWaves('drop', waves, [...agents].reverse()).waveOf, waveOf);
        const totals = waveTotals(waves, agents.length);
        assert.equal(count, totals.length);
        const upTo = (wave: number) => [...waveOf.values()].filter((one) => one <= wave).length;
        for (const [place, total] of totals.entries()) assert.equal(upTo(place + 1), total);
        const wave = (agentId: string) => waveOf.get(agentId)!;
        const last = Math.max(0, ...agents.filter(({ online }) => online).map(({ agentId }) => wave(agentId)));
        for (const { agentId, online } of agents) assert.ok(online || wave(agentId) >= last);
        // Who is first stays first when others come and go.
        const [first] = agents.filter(({ agentId, online }) => online && wave(agentId) === 1);
        const fewer = agents.filter(({ agentId }) => agentId === first?.agentId || wave(agentId) > 1);
        if (first !== undefined) assert.equal(assignWaves('drop', waves, fewer).waveOf.get(first.agentId), 1);
      }),
    );
  });

  it('put other agents first for another assignment', () => {
    const agents = Array.from({ length: 50 }, (_, place) => ({ agentId: `a${place}`, online: true }));
    const firsts = ['drop', 'count', 'trace'].map((name) => {
      const { waveOf } = assignWaves(name, [10, 100], agents);
      return agents
        .filter(({ agentId }) => waveOf.get(agentId) === 1)
        .map(({ agentId }) => agentId)
        .join();
    });
    assert.equal(new Set(firsts).size, 3);
  });
});

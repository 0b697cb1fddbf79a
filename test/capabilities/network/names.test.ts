import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Names } from '../../../src/capabilities/network/names.ts';
import { MovedClock } from './network-fixture.ts';

const HUB = 'hub.example:51820';
const { signal } = new AbortController();

function world() {
  const answers = new Map<string, string>();
  const asked: string[] = [];
  const clock = new MovedClock();
  const resolver = {
    resolve: async (endpoints: Iterable<string>) => {
      const wanted = [...endpoints];
      asked.push(...wanted);
      return new Map([...answers].filter(([name]) => wanted.includes(name)));
    },
  };
  return { answers, asked, clock, names: new Names(resolver, clock) };
}

describe('names of peers', () => {
  it('are asked for once as long as the peer fares well', async () => {
    const { answers, asked, names } = world();
    answers.set(HUB, '192.0.2.1:51820');
    assert.equal((await names.resolve([HUB, '192.0.2.9:1'], signal)).get(HUB), '192.0.2.1:51820');
    await names.resolve([HUB], signal);
    assert.deepEqual(asked, [HUB]);
    assert.equal(names.dueAtMs, Number.POSITIVE_INFINITY);
  });

  it('are asked for again while it does not answer, at growing intervals', async () => {
    const { answers, asked, clock, names } = world();
    answers.set(HUB, '192.0.2.1:51820');
    await names.resolve([HUB], signal);
    answers.set(HUB, '192.0.2.2:51820');
    names.suspect(HUB);
    await names.resolve([HUB], signal);
    assert.equal(asked.length, 1, 'not at once');
    clock.offsetMs += 11_001;
    assert.equal((await names.resolve([HUB], signal)).get(HUB), '192.0.2.2:51820');
    assert.equal(asked.length, 2);
  });

  it('keep the address of an earlier life, and wait without one', async () => {
    const { answers, asked, clock, names } = world();
    names.recall(HUB, '192.0.2.7:51820');
    assert.equal((await names.resolve([HUB], signal)).get(HUB), '192.0.2.7:51820');
    assert.deepEqual(asked, []);
    const other = 'other.example:1';
    assert.equal((await names.resolve([HUB, other], signal)).has(other), false);
    assert.ok(names.isUnresolved(other));
    answers.set(other, '192.0.2.3:1');
    clock.offsetMs += 200_000;
    assert.equal((await names.resolve([HUB, other], signal)).get(other), '192.0.2.3:1');
    assert.ok(!names.isUnresolved(other));
  });
});

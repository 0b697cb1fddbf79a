import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Topic } from '../../../src/controller/bus/bus.ts';
import { MemoryBus } from '../../../src/controller/bus/memory/memory-bus.ts';
import { silentLogger } from '../../../src/core/logger.ts';

type Counted = { readonly n: number };
const TOPIC: Topic<Counted> = { name: 't' };

describe('memory bus', () => {
  let bus: MemoryBus;
  beforeEach(() => {
    bus = new MemoryBus(silentLogger);
  });
  afterEach(async () => await bus[Symbol.asyncDispose]());

  it('delivers in order to every subscriber of the topic, from the subscription on', async () => {
    bus.publish(TOPIC, { n: 0 });
    using one = await bus.subscribe(TOPIC, 10);
    using two = await bus.subscribe(TOPIC, 10);
    using other = await bus.subscribe({ name: 'other' }, 10);
    for (const n of [1, 2]) bus.publish(TOPIC, { n });
    for (const subscription of [one, two]) {
      assert.deepEqual(await subscription.next(), { kind: 'message', message: { n: 1 } });
      assert.deepEqual(await subscription.next(), { kind: 'message', message: { n: 2 } });
    }
    assert.equal(await other.next(AbortSignal.abort()), undefined);
  });

  it('tells a slow subscriber that it lagged, once, and goes on', async () => {
    using slow = await bus.subscribe(TOPIC, 2);
    for (let n = 1; n <= 100; n++) bus.publish(TOPIC, { n });
    const kinds = [await slow.next(), await slow.next(), await slow.next()].map((event) => event?.kind);
    assert.deepEqual(kinds, ['message', 'message', 'lagged']);
    bus.publish(TOPIC, { n: 101 });
    assert.deepEqual(await slow.next(), { kind: 'message', message: { n: 101 } });
  });

  it('ends subscriptions that are disposed, aborted or outlive the bus', async () => {
    const disposed = await bus.subscribe(TOPIC, 1);
    const waiting = disposed.next();
    disposed[Symbol.dispose]();
    assert.equal(await waiting, undefined);
    using aborted = await bus.subscribe(TOPIC, 1);
    const leaving = new AbortController();
    const aborting = aborted.next(leaving.signal);
    leaving.abort();
    assert.equal(await aborting, undefined);
    bus.publish(TOPIC, { n: 1 });
    assert.equal((await aborted.next())?.kind, 'message');
    const iterating = await bus.subscribe(TOPIC, 1);
    const all = (async () => {
      const seen: unknown[] = [];
      for await (const event of iterating) seen.push(event);
      return seen;
    })();
    bus.publish(TOPIC, { n: 7 });
    await new Promise((resolve) => setImmediate(resolve));
    await bus[Symbol.asyncDispose]();
    assert.deepEqual(await all, [{ kind: 'message', message: { n: 7 } }]);
  });

  it('keeps publishers safe from listeners that throw', async () => {
    const seen: number[] = [];
    using _bad = await bus.listen(TOPIC, () => {
      throw new Error('broken');
    });
    const good = await bus.listen(TOPIC, (event) => event.kind === 'message' && seen.push(event.message.n));
    bus.publish(TOPIC, { n: 1 });
    good[Symbol.dispose]();
    bus.publish(TOPIC, { n: 2 });
    assert.deepEqual(seen, [1]);
  });
});

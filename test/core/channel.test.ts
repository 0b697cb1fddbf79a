import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Channel } from '../../src/core/channel.ts';

test('a writer waits while the channel is full and goes on when the reader takes', async () => {
  const channel = new Channel<number>(2);
  const sent: number[] = [];
  const writer = (async () => {
    for (let item = 0; item < 5; item++) {
      assert.equal(await channel.send(item), true);
      sent.push(item);
    }
    channel.close();
  })();
  await new Promise(setImmediate);
  assert.deepEqual(sent, [0, 1]);
  const read: number[] = [];
  for await (const item of channel) {
    read.push(item);
    assert.ok(channel.size <= 2);
  }
  await writer;
  assert.deepEqual(read, [0, 1, 2, 3, 4]);
});

test('leaving the loop closes the channel and releases waiting writers, whose items are not taken', async () => {
  const channel = new Channel<number>(1);
  const writers = [channel.send(1), channel.send(2), channel.send(3)];
  for await (const _ of channel) break;
  const taken = await Promise.all(writers);
  assert.equal(taken[0], true);
  assert.equal(taken.at(-1), false);
  assert.equal(await channel.send(4), false);
});

test('fail drops what is queued and throws at the reader', async () => {
  const channel = new Channel<number>(4);
  channel.trySend(1);
  channel.fail(new Error('lost'));
  await assert.rejects(async () => {
    for await (const item of channel) assert.fail(`read ${item}`);
  }, /lost/);
});

test('an aborted writer stops waiting', async () => {
  const channel = new Channel<number>(1);
  channel.trySend(1);
  const abort = new AbortController();
  const waiting = channel.send(2, abort.signal);
  abort.abort(new Error('enough'));
  await assert.rejects(waiting, /enough/);
  assert.equal(channel.size, 1);
});

test('any number of writers: every item that was taken is read once, in order per writer', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(20), { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 1, max: 4 }),
      async (counts, capacity) => {
        const channel = new Channel<readonly [number, number]>(capacity);
        const writers = counts.map(async (count, writer) => {
          for (let item = 0; item < count; item++) await channel.send([writer, item]);
        });
        void Promise.all(writers).then(() => channel.close());
        const next = counts.map(() => 0);
        for await (const [writer, item] of channel) assert.equal(item, next[writer]!++);
        assert.deepEqual(next, counts);
      },
    ),
  );
});

test('an item taken out of turn makes room, and an unwanted one stays', async () => {
  const channel = new Channel<number>(1);
  channel.trySend(1);
  const waiting = channel.send(2);
  assert.equal(
    channel.takeIf((item) => item > 1),
    undefined,
  );
  assert.equal(
    channel.takeIf((item) => item === 1),
    1,
  );
  assert.equal(await waiting, true);
  channel.close();
  assert.deepEqual(await Array.fromAsync(channel), [2]);
});

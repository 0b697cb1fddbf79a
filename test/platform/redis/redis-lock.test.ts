// The lock on a real Redis, beyond what the contract of all locks says: what Redis keeps, forgets and refuses.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { RedisConnection } from '../../../src/platform/redis/redis-connection.ts';
import { RedisLock } from '../../../src/platform/redis/redis-lock.ts';
import { missingRedis, RedisServer } from '../../fixtures/redis-server.ts';
import { until } from '../../link/scratch.ts';

const TTL_MS = 60_000;
const never = new AbortController().signal;

describe('lock in Redis', { skip: missingRedis ?? false }, () => {
  let redis: RedisServer;
  let nowMs = 0;
  let raw: RedisConnection;
  before(async () => {
    redis = await RedisServer.start();
    raw = new RedisConnection({ url: redis.url });
  });
  after(async () => {
    raw[Symbol.dispose]();
    await redis?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    nowMs = 0;
    await call("return redis.call('FLUSHALL')");
  });
  const call = async (script: string) => await raw.run(script, [], [], never);
  const lock = (holder: string, init: Partial<ConstructorParameters<typeof RedisLock>[0]> = {}) =>
    new RedisLock({ url: redis.url, agentId: 'a', holder, ttlMs: TTL_MS, elapsed: () => nowMs, ...init });

  test('a key lapses after its time, unless it was renewed', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    const left = Number(await call("return redis.call('PTTL', 'longline:{a}:leader')"));
    assert.ok(left > 0 && left <= TTL_MS, String(left));
    await call("return redis.call('PEXPIRE', 'longline:{a}:leader', 1)");
    await using second = lock('two');
    while ((await second.acquire(1n, never)).kind !== 'acquired');
    assert.equal(await first.renew(1n, never), false);
  });

  test('a Redis that lost its data: the leader claims it again', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    await redis.kill();
    await assert.rejects(first.renew(1n, never), { reason: 'unavailable' });
    await redis.resume();
    assert.equal(await first.renew(1n, never), true);
    await using second = lock('two');
    assert.deepEqual(await second.acquire(1n, never), { kind: 'taken', holder: 'one', epoch: 1n });
  });

  test('a Redis that lost its data: who knows of a higher epoch waits a whole period, and goes on above it', async () => {
    await using second = lock('two');
    assert.deepEqual(await second.acquire(41n, never), { kind: 'taken' });
    nowMs += TTL_MS - 1;
    assert.deepEqual(await second.acquire(41n, never), { kind: 'taken' });
    nowMs += 1;
    assert.deepEqual(await second.acquire(41n, never), { kind: 'acquired', epoch: 42n });
    await second.release(42n, never);
    await using third = lock('three');
    assert.deepEqual(await third.acquire(0n, never), { kind: 'acquired', epoch: 43n });
  });

  test('a counter that is none is an error that names it', async () => {
    await call("return redis.call('SET', 'longline:{a}:epoch', 'many')");
    await using first = lock('one');
    await assert.rejects(first.acquire(0n, never), /counter of epochs/);
  });

  test('a Redis that hangs is left when time is up, and found again', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    redis.halt();
    try {
      const stop = new AbortController();
      const renewal = first.renew(1n, stop.signal);
      stop.abort(new Error('time is up'));
      await assert.rejects(renewal, /time is up/);
    } finally {
      redis.goOn();
    }
    assert.equal(await first.renew(1n, never), true);
  });

  test('a server that takes connections and says nothing is left with none of them', async () => {
    const open = new Set<Socket>();
    const server = createServer((socket) => {
      open.add(socket);
      socket.once('close', () => open.delete(socket)).on('error', () => socket.destroy());
      socket.once('data', () => server.emit('asked'));
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    await using first = lock('one', { url: `redis://127.0.0.1:${port}/0` });
    try {
      // Given up before and after the client knows that it is connected.
      for (const moment of ['connection', 'asked', 'connection', 'asked']) {
        const stop = new AbortController();
        const come = once(server, moment);
        const answer = first.acquire(0n, stop.signal);
        await come;
        stop.abort(new Error('time is up'));
        await assert.rejects(answer, /time is up/);
      }
      await until('all are closed', () => open.size === 0, 20_000);
    } finally {
      for (const socket of open) socket.destroy();
      server.close();
    }
  });

  test('a password that is wrong is told, and not the password', async () => {
    await using guarded = await RedisServer.start('--requirepass', 'swordfish');
    await using right = lock('one', { url: guarded.url, password: 'swordfish' });
    assert.equal((await right.acquire(0n, never)).kind, 'acquired');
    await using wrong = lock('two', { url: guarded.url.replace('//', '//:herring@') });
    await assert.rejects(wrong.acquire(0n, never), (error: Error) => {
      assert.match(error.message, /WRONGPASS|invalid/i);
      assert.doesNotMatch(`${error.message} ${wrong.name}`, /herring/);
      return true;
    });
  });
});

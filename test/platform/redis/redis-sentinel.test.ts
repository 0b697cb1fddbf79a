// The lock by a primary that a real Sentinel knows, and moves.
import assert from 'node:assert/strict';
import { type AddressInfo, createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { RedisLock } from '../../../src/platform/redis/redis-lock.ts';
import { freePort } from '../../fixtures/nats-server.ts';
import { missingRedis, RedisServer } from '../../fixtures/redis-server.ts';

const NAME = 'longline';
const never = new AbortController().signal;

/** Takes connections and says nothing. `met` resolves with the first. */
async function takingAndSilent(owned: AsyncDisposableStack) {
  const { promise: met, resolve } = Promise.withResolvers<void>();
  let taken = 0;
  const server = createServer((socket) => {
    taken += 1;
    resolve();
    socket.on('error', () => socket.destroy()).resume();
  });
  owned.defer(() => void server.close());
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  return { address: `127.0.0.1:${port}`, met, taken: () => taken };
}

describe('lock in a Redis that Sentinels know', { skip: missingRedis ?? false }, () => {
  const owned = new AsyncDisposableStack();
  let primary: RedisServer;
  let replica: RedisServer;
  let sentinel: RedisServer;
  /** Takes connections and says nothing. */
  let silent: string;
  let gone: string;
  before(async () => {
    primary = owned.use(await RedisServer.start());
    replica = owned.use(await RedisServer.start('--replicaof', `127.0.0.1 ${primary.port}`));
    sentinel = owned.use(await RedisServer.sentinel(NAME, primary));
    silent = (await takingAndSilent(owned)).address;
    gone = `127.0.0.1:${await freePort()}`;
  });
  after(() => owned.disposeAsync());

  const lock = (holder: string, addresses: readonly string[], primary = NAME, agentId = 'a') =>
    new RedisLock({
      ...{ agentId, holder, ttlMs: 60_000, elapsed: () => 0 },
      ...{ url: 'redis://nowhere:1/0', sentinels: { addresses, primary } },
    });
  /** Asks until it is answered, as the election does. */
  const answered = async <T>(ask: () => Promise<T>): Promise<T> => {
    for (const endsAt = performance.now() + 60_000; ; ) {
      try {
        return await ask();
      } catch (error) {
        if (performance.now() > endsAt) throw error;
      }
      await pause(20);
    }
  };

  test('Sentinels that are gone or silent do not matter while one helps', async () => {
    await using one = lock('one', [gone, silent, sentinel.address]);
    assert.deepEqual(await one.acquire(0n, never), { kind: 'acquired', epoch: 1n });
    assert.match(await primary.command('GET', 'longline:{a}:leader'), /one/);
    await one.release(1n, never);
  });

  test('whoever has less patience than silent Sentinels take gets past them all the same', async () => {
    const quiet = [await takingAndSilent(owned), await takingAndSilent(owned)];
    const addresses = [...quiet.map(({ address }) => address), sentinel.address];
    await using one = lock('one', addresses, NAME, 'impatient');
    for (const { met } of quiet) {
      const impatient = new AbortController();
      const asked = one.acquire(0n, impatient.signal);
      await met;
      impatient.abort(new Error('no more patience'));
      await assert.rejects(asked, /no more patience/);
    }
    assert.equal((await one.acquire(0n, never)).kind, 'acquired');
    assert.deepEqual(
      quiet.map(({ taken }) => taken()),
      [1, 1],
      'each was asked once',
    );
  });

  test('if none helps, the error says what each said', async () => {
    await using one = lock('one', [gone, silent]);
    await assert.rejects(one.acquire(0n, never), (error: Error & { reason?: string }) => {
      assert.equal(error.reason, 'unavailable');
      assert.match(
        error.message,
        new RegExp(`no Sentinel helped: ${gone}: .*ECONNREFUSED.*; ${silent}: no answer within`),
      );
      return true;
    });
    await using other = lock('one', [sentinel.address], 'other');
    await assert.rejects(other.acquire(0n, never), /knows no "other"/);
  });

  test('the primary is killed: the leader goes on with the one that the Sentinel promotes, in its epoch', async () => {
    // A Sentinel hears of replicas from their primary.
    await answered(async () => {
      assert.match(await sentinel.command('SENTINEL', 'MASTER', NAME), /num-slaves\r\n\$1\r\n1/);
    });
    await using one = lock('one', [silent, sentinel.address]);
    const { epoch } = await one.acquire(1n, never);
    await primary.command('WAIT', '1', '10000');
    await primary.kill();
    assert.equal(await answered(() => one.renew(epoch!, never)), true);
    assert.match(await replica.command('GET', 'longline:{a}:leader'), /one/);
    await using two = lock('two', [sentinel.address]);
    assert.deepEqual(await two.acquire(epoch!, never), { kind: 'taken', holder: 'one', epoch });
    await one.release(epoch!, never);
    assert.deepEqual(await two.acquire(epoch!, never), { kind: 'acquired', epoch: epoch! + 1n });
  });

  test('a Sentinel that is behind names the primary of before: it is not believed', async () => {
    await primary.resume();
    await primary.command('REPLICAOF', '127.0.0.1', String(replica.port));
    await using behind = await RedisServer.sentinel(NAME, primary);
    await using misled = lock('one', [behind.address]);
    await assert.rejects(misled.acquire(3n, never), new RegExp(`named ${primary.address}, which is no primary`));
    await using one = lock('one', [behind.address, sentinel.address]);
    assert.deepEqual(await one.acquire(3n, never), { kind: 'taken', holder: 'two', epoch: 3n });
  });
});

// Three replicas that are stopped, continued and killed at random, on a real Redis that is killed, halted, emptied and followed by
// a replica of it, and on a locked file. What no order of faults may break is said in the stage.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Act, hostMs } from '../fixtures/elected-process.ts';
import {
  judged,
  LASTING,
  latestEpoch,
  NAMES,
  openStage,
  pause,
  type Stage,
  TIMES,
} from '../fixtures/election-stage.ts';
import { FaultProxy } from '../fixtures/fault-proxy.ts';
import { missingRedis, RedisServer } from '../fixtures/redis-server.ts';
import { faultSeeds, seededRandom } from '../fixtures/seeded-random.ts';

const STEPS = 12;

/** One that never heard of an epoch can't know that it was, once Redis has lost it. */
async function everyoneKnows({ replicas }: Stage, epoch: number): Promise<void> {
  const told = new RegExp(`leads .*"epoch":"${epoch}"`);
  while (!replicas.every(({ stderr }) => told.test(stderr))) await pause(20);
}

/** Kills one Redis, promotes the other and gives it the name of the first; resolves with an act that only it can have allowed. */
async function failOver(play: Stage, name: FaultProxy, from: RedisServer, to: RedisServer): Promise<Act> {
  await from.kill();
  await to.command('REPLICAOF', 'NO', 'ONE');
  name.turnTo(to.port);
  const heldUntilMs = hostMs() + TIMES.ttlMs;
  for (;;) {
    const found = (await play.acts()).find(({ askedMs }) => askedMs > heldUntilMs);
    if (found !== undefined) return found;
    await pause(20);
  }
}

// Side by side: each has replicas and a Redis of its own, and most of the time they wait.
describe('election by Redis', { skip: missingRedis ?? false, concurrency: 3 }, () => {
  for (const seed of faultSeeds(3)) {
    test(`replicas stopped, continued and killed, Redis halted and killed (seed ${seed})`, async () => {
      const random = seededRandom(seed * 104_729);
      // Its file is what makes it remember over a kill; what it loses without one is tried below.
      await using redis = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always');
      await using play = await openStage({ redisUrl: redis.url });
      await play.later(0);
      for (let step = 0; step < STEPS; step++) {
        const replica = play.replicas[Math.floor(random() * NAMES.length)]!;
        const what = random();
        if (what < 0.45) {
          replica.halt();
          await pause(TIMES.ttlMs * (0.5 + 2 * random()));
          replica.goOn();
        } else if (what < 0.7) {
          await replica.replace();
        } else if (what < 0.85) {
          redis.halt();
          await pause(TIMES.ttlMs * 2 * random());
          redis.goOn();
        } else {
          await redis.kill();
          await pause(TIMES.ttlMs * 1.5 * random());
          await redis.resume();
        }
        await pause(300 * random());
      }
      // Whatever happened, one leads in the end, and goes on leading.
      const count = (await play.acts()).length;
      while ((await play.acts()).length < count + 20) await pause(50);
      assert.ok(judged(await play.acts()) > 1, 'the leader changed');
    });
  }

  test('a leader that is stopped past its time notices before it acts', async () => {
    await using redis = await RedisServer.start();
    await using play = await openStage({ redisUrl: redis.url });
    const first = await play.later(0);
    const stopped = play.replicas[NAMES.indexOf(first.name)]!;
    for (let round = 0, epoch = first.epoch; round < 3; round++) {
      const leader = play.replicas[NAMES.indexOf((await play.acts()).findLast((act) => act.epoch === epoch)!.name)]!;
      leader.halt();
      const next = await play.later(epoch);
      leader.goOn();
      await pause(TIMES.renewMs);
      epoch = next.epoch;
    }
    judged(await play.acts());
    assert.match(stopped.stderr, /no longer leads/);
  });

  test('a Redis that loses all it knew: epochs go on, and nobody acts beside another', async () => {
    await using redis = await RedisServer.start();
    await using play = await openStage({ redisUrl: redis.url });
    await play.later(0);
    for (let round = 0; round < 3; round++) {
      const epoch = await latestEpoch(play);
      await everyoneKnows(play, epoch);
      await redis.kill();
      if (round > 0) await pause(TIMES.ttlMs);
      await redis.resume();
      if (round > 0) await play.later(epoch);
    }
    judged(await play.acts());
  });

  test('failovers, to a replica that has all and to one that is behind: epochs go on, and nobody acts beside another', async (context) => {
    await using first = await RedisServer.start();
    const follow = ['--replicaof', `127.0.0.1 ${first.port}`];
    await using second = await RedisServer.start(...follow);
    await using third = await RedisServer.start(...follow);
    await using name = await FaultProxy.start(first.port);
    await using play = await openStage({ redisUrl: `redis://127.0.0.1:${name.port}/0` });
    await play.later(0);
    while (!(await first.command('WAIT', '2', '1000')).startsWith(':2'));
    // From here on the third hears of nothing: neither of who comes next, nor in which epoch.
    await third.command('REPLICAOF', 'NO', 'ONE');
    await failOver(play, name, first, second);

    const epoch = await latestEpoch(play);
    const leader = (await play.acts()).findLast((act) => act.epoch === epoch)!.name;
    await play.replicas[NAMES.indexOf(leader)]!.replace();
    const next = await play.later(epoch);
    await everyoneKnows(play, next.epoch);
    const { epoch: last } = await failOver(play, name, second, third);
    context.diagnostic(`epoch ${last} after ${next.epoch}, of which the promoted one never heard`);
    assert.ok(last >= next.epoch);
    judged(await play.acts());
  });

  test('an orderly stop hands over, and waits for no lease to lapse', async () => {
    await using redis = await RedisServer.start();
    await using play = await openStage({ redisUrl: redis.url }, LASTING);
    const first = await play.later(0);
    await play.replicas[NAMES.indexOf(first.name)]!.end('SIGTERM');
    await play.later(first.epoch);
  });
});

describe('election by a locked file', { concurrency: 3 }, () => {
  for (const seed of faultSeeds(3)) {
    test(`replicas stopped, continued and killed (seed ${seed})`, async () => {
      const random = seededRandom(seed * 15_485_863);
      await using play = await openStage({ file: true });
      await play.later(0);
      for (let step = 0; step < STEPS; step++) {
        const epoch = await latestEpoch(play);
        const leading = (await play.acts()).findLast((act) => act.epoch === epoch)!.name;
        const replica = play.replicas[NAMES.indexOf(leading)]!;
        if (random() < 0.4) {
          // The kernel keeps the lock for it: nobody else may lead, and it may go on.
          replica.halt();
          await pause(TIMES.ttlMs * random());
          replica.goOn();
        } else {
          await replica.replace();
          await play.later(epoch);
        }
        await pause(100 * random());
      }
      assert.ok(judged(await play.acts()) > 1, 'the leader changed');
    });
  }
});

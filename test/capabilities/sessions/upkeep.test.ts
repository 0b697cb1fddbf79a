import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { SessionTelemetrySchema } from '#gen/longline/v1/session_pb.js';
import { ImageCollector, removable } from '../../../src/capabilities/sessions/image-collector.ts';
import { Traffic } from '../../../src/capabilities/sessions/traffic.ts';
import { decodeStatus, duration } from '../../../src/capabilities/sessions/wire.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { FakeSessionEngine } from '../../fixtures/fake-session-engine.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';
import { until } from '../../link/scratch.ts';
import { MemoryState } from '../jobs/jobs-fixture.ts';
import { Sent, SessionCause, SessionState, SessionsWorld, up } from './sessions-fixture.ts';

const forever = new AbortController().signal;

suite('idle sessions', () => {
  test('cost no ticks while there are none', async () => {
    const waits: number[] = [];
    const fast = fastClock(40);
    const sleep = async (ms: number, signal?: AbortSignal) => {
      waits.push(ms);
      await fast.sleep(ms, signal);
    };
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine, {}, { ...fast, sleep });
    const sessions = await world.start();
    await fast.sleep(20_000);
    assert.deepEqual(
      waits.filter((ms) => ms <= 1000),
      [],
    );
    // The first of them is seen to all the same.
    await up(sessions, 'one', { maxLifetime: duration(5_000) });
    await world.until('one', ({ state }) => state === SessionState.ENDED, 'the end of its life');
    assert.ok(waits.some((ms) => ms <= 1000));
  });

  test('are paused, then stopped, and woken by whoever visits them', async () => {
    const engine = new FakeSessionEngine({
      program: async ({ listen, stopped }) => {
        listen(5901);
        return await stopped;
      },
    });
    await using world = new SessionsWorld(engine, { sampleEveryMs: 2000 }, fastClock(40));
    const sessions = await world.start();
    const idle = { pauseAfter: duration(20_000), stopAfter: duration(120_000) };
    await up(sessions, 'one', { idle, ports: [{ name: 'vnc', number: 5901 }] });
    const paused = await world.until('one', ({ state }) => state === SessionState.PAUSED, 'the pause');
    assert.equal(paused.cause, SessionCause.IDLE);
    await assert.rejects(sessions.visit('one', { port: 5901, wake: false }, forever), /is asleep \(pause\)/);
    await assert.rejects(
      sessions.visit('one', { port: 22, wake: true }, forever),
      /does not offer port 22; it offers: 5901/,
    );
    {
      using visit = await sessions.visit('one', { port: 5901, wake: true }, forever);
      assert.equal(visit.woken, true);
      assert.deepEqual(visit.endpoint.addresses, [engine.only.address]);
      assert.deepEqual([world.latest('one')!.cause, world.latest('one')!.openTunnels], [SessionCause.TUNNEL, 1]);
      await world.until(
        'one',
        ({ state }) => state === SessionState.PAUSED,
        'a pause beside an open tunnel without bytes',
      );
      visit.touch(10, 20);
      await world.until('one', ({ state }) => state === SessionState.RUNNING, 'bytes to wake it');
    }
    await world.until('one', ({ state }) => state === SessionState.HIBERNATED, 'the stop');
    assert.equal(engine.only.facts().state, 'exited');
    using again = await sessions.visit('one', { wake: true }, forever);
    assert.equal(again.woken, true);
    await assert.rejects(sessions.visit('nobody', { wake: true }, forever), /not on this agent/);
  });

  test('are not those that somebody visits while others are put to sleep before them', async () => {
    const engine = new FakeSessionEngine();
    let aheadMs = 0;
    const clock = {
      now: () => Date.now() + aheadMs,
      monotonic: () => performance.now(),
      sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms / 50, signal),
    };
    await using world = new SessionsWorld(engine, {}, clock);
    const sessions = await world.start();
    const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'last'];
    for (const id of ids) await up(sessions, id, { idle: { pauseAfter: duration(1_800_000) } });
    engine.hold('pauseContainer');
    aheadMs = 3_600_000;
    const pausing = () => engine.calls.filter((call) => call.startsWith('pauseContainer')).length;
    await until('as many sleep as may at once', () => pausing() === 8);
    using visit = await sessions.visit('last', { wake: true }, forever);
    engine.release('pauseContainer');
    for (const id of ids.slice(0, 8)) await world.until(id, ({ state }) => state === SessionState.PAUSED, id);
    const woken = await new Sent(sessions, { case: 'wake', value: { sessionId: 'last' } }).done;
    assert.deepEqual([visit.woken, woken?.outcome, woken?.unchanged], [false, 'succeeded', true]);
  });

  test('are not those that work', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine, { sampleEveryMs: 1000 }, fastClock(40));
    const sessions = await world.start();
    const idle = { pauseAfter: duration(3_600_000) };
    await up(sessions, 'idle', { idle });
    await up(sessions, 'busy', { idle });
    const activeAt = (id: string) => {
      const statuses = sessions.statuses()!.map(decodeStatus);
      return Number(statuses.find(({ sessionId }) => sessionId === id)!.activityTime!.seconds);
    };
    const [idleSince, busySince] = [activeAt('idle'), activeAt('busy')];
    const working = [...engine.containers.values()].at(-1)!;
    const work = setInterval(() => {
      working.usage = { ...working.usage, cpuNanos: working.usage.cpuNanos + 10_000_000 };
    }, 10);
    await world.until('busy', () => activeAt('busy') > busySince + 5, 'activity to be noticed');
    clearInterval(work);
    assert.equal(activeAt('idle'), idleSince);
    const figures = world.figures.map((bytes) => fromBinary(SessionTelemetrySchema, bytes));
    const last = figures.findLast(({ sessionId }) => sessionId === 'busy')!;
    assert.ok(last.cpuSeconds > 0);
    assert.deepEqual([last.starts, last.cpuLimit], [1, 1]);
  });
});

test('a session is ended when its lifetime has passed, and its volume kept', async () => {
  const engine = new FakeSessionEngine();
  await using world = new SessionsWorld(engine, {}, fastClock(20));
  const sessions = await world.start();
  const status = await up(sessions, 'one', { maxLifetime: duration(5000), volumes: [{ name: 'v', target: '/v' }] });
  assert.ok(status.expireTime !== undefined);
  const ended = await world.until('one', ({ state }) => state === SessionState.ENDED, 'its end');
  assert.equal(ended.cause, SessionCause.LIFETIME);
  assert.deepEqual([engine.containers.size, engine.networks.size, engine.volumes.size], [0, 0, 1]);
});

test('bytes within a minute count as they are, and a new run begins anew', () => {
  const policy = { pauseAfterMs: 1, stopAfterMs: undefined, maxCpus: 0.05, maxNetworkBytes: 1000 };
  const reading = (seconds: number, bytes: number, cpuSeconds = 0) => ({
    ...{ atMs: seconds * 1000, cpuNanos: cpuSeconds * 1e9, memoryBytes: 0, networkRxBytes: bytes, networkTxBytes: 0 },
    ...{ blockReadBytes: 0, blockWriteBytes: 0, pids: 1 },
  });
  const traffic = new Traffic();
  assert.equal(traffic.measured(reading(0, 0, 1), policy), false);
  assert.equal(traffic.measured(reading(10, 900, 1), policy), false);
  assert.equal(traffic.measured(reading(20, 1100, 1), policy), true);
  assert.equal(traffic.measured(reading(90, 1100, 1), policy), false);
  assert.equal(traffic.measured(reading(100, 1100, 6), policy), true);
  assert.equal(traffic.measured(reading(110, 0, 0), policy), false);
});

suite('the image collector', () => {
  const day = 24 * 3_600_000;

  test('removes what it pulled and nobody uses, longest unused first, until there is room', async () => {
    const engine = new FakeSessionEngine({ images: ['theirs:1', 'old:1', 'older:1', 'used:1', 'fresh:1'] });
    const state = new MemoryState();
    let nowMs = Date.now() - 10 * day;
    const clock = { ...systemClock, now: () => nowMs };
    const image = (reference: string) => engine.images.get(reference)!;
    const id = (reference: string) => image(reference).id;
    const retention = { enabled: true, highPercent: 80, lowPercent: 60, minAgeMs: day };
    const inUse = () => new Set([id('used:1')]);
    const collector = new ImageCollector({ engine, state, clock, log: silentLogger, retention, inUse });
    for (const reference of ['older:1', 'old:1', 'used:1']) {
      collector.pulled(image(reference), reference);
      nowMs += 1000;
    }
    nowMs = Date.now();
    collector.pulled(image('fresh:1'), 'fresh:1');
    collector.used(image('theirs:1'));
    engine.disk = { totalBytes: 100, freeBytes: 30 };
    assert.deepEqual(await collector.collect(), []);
    engine.disk = { totalBytes: 100, freeBytes: 10 };
    const [older, old] = [id('older:1'), id('old:1')];
    assert.deepEqual(await collector.collect(), [older, old]);
    assert.deepEqual([...engine.images.keys()], ['theirs:1', 'used:1', 'fresh:1']);
  });

  test('never offers what is used or young', () => {
    const images = [
      { id: 'a', reference: 'a', usedAtMs: 5 },
      { id: 'b', reference: 'b', usedAtMs: 1 },
      { id: 'c', reference: 'c', usedAtMs: 99 },
    ];
    assert.deepEqual(
      removable(images, new Set(['a']), 100, { minAgeMs: 10 }).map(({ id }) => id),
      ['b'],
    );
  });

  test('keeps what was used lately, and notes no use twice in a minute', async () => {
    const engine = new FakeSessionEngine({ images: ['old:1'] });
    const state = new MemoryState();
    let nowMs = Date.now() - 10 * day;
    let writes = 0;
    const counted = {
      ...state,
      get: state.get.bind(state),
      list: state.list.bind(state),
      delete: state.delete.bind(state),
    };
    const put = async (key: string, value: Uint8Array) => {
      writes += 1;
      await state.put(key, value);
    };
    const retention = { enabled: true, highPercent: 1, lowPercent: 0, minAgeMs: day };
    const collector = new ImageCollector({
      ...{
        engine,
        state: { ...counted, put },
        clock: { ...systemClock, now: () => nowMs },
        log: silentLogger,
        retention,
      },
      inUse: () => new Set<string>(),
    });
    const image = engine.images.get('old:1')!;
    collector.pulled(image, 'old:1');
    nowMs = Date.now();
    for (let use = 0; use < 100; use++) collector.used(image);
    assert.deepEqual(await collector.collect(), []);
    assert.equal(writes, 2);
    nowMs += 2 * day;
    assert.deepEqual(await collector.collect(), [image.id]);
  });

  test('hears of pulls of sessions', async () => {
    const engine = new FakeSessionEngine({ images: [], pulls: ['desktop:1'] });
    const images = { enabled: true, highPercent: 1, lowPercent: 0, minAgeMs: 0 };
    await using world = new SessionsWorld(engine, { images });
    const sessions = await world.start();
    await up(sessions, 'one');
    await new Sent(sessions, { case: 'stop', value: { sessionId: 'one' } }).result();
    assert.equal((await world.state.list('image/')).length, 1);
  });
});

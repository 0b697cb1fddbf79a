import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { duration } from '../../../src/capabilities/sessions/wire.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { newId } from '../../../src/core/ids.ts';
import type { FakeSessionProcess } from '../../fixtures/fake-session-container.ts';
import { FakeSessionEngine, type FakeSessionMethod } from '../../fixtures/fake-session-engine.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';
import { until } from '../../link/scratch.ts';
import { Sent, SessionCause, SessionState, SessionsWorld, startOf, up } from './sessions-fixture.ts';

const quick = { backoff: duration(100), maxBackoff: duration(100) };

function hibernate(sessionId: string, tier: 1 | 2) {
  return { case: 'hibernate', value: { sessionId, tier } } as const;
}

suite('sessions found again', () => {
  test('are adopted by a new agent with one list, without being touched, and their output goes on', async () => {
    const writers: ((text: string) => void)[] = [];
    const engine = new FakeSessionEngine({
      program: async ({ write, stopped }) => {
        writers.push(write);
        write('before ');
        return await stopped;
      },
    });
    await using world = new SessionsWorld(engine);
    const first = await world.start();
    await up(first, 'one');
    await up(first, 'two');
    await world.untilLogged('one.1', 1, 'before ');
    await world.letGo();
    writers[0]!('between ');
    engine.calls.length = 0;
    const second = await world.start();
    await world.untilLogged('one.1', 1, 'before between ');
    writers[0]!('after');
    await world.untilLogged('one.1', 1, 'before between after');
    assert.equal(engine.calls.filter((call) => call.startsWith('listContainers')).length, 1);
    const touched = engine.calls.filter((call) => /^(start|stop|pause|unpause|remove|create)/.test(call));
    assert.deepEqual(touched, []);
    assert.equal(second.counts().running, 2);
    const ended = await new Sent(second, { case: 'stop', value: { sessionId: 'one' } }).result();
    assert.equal(ended.outcome, 'succeeded');
  });

  test('go back to what they were after the host was started anew', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const first = await world.start();
    await up(first, 'runs');
    await up(first, 'never', { restart: { mode: 1 } });
    await up(first, 'pauses');
    await up(first, 'stops');
    await new Sent(first, hibernate('pauses', 1)).result();
    await new Sent(first, hibernate('stops', 2)).result();
    await world.letGo();
    engine.reboot();
    world.bootId = newId();
    await world.start();
    for (const id of ['runs', 'never']) {
      const status = await world.until(
        id,
        ({ state, starts }) => state === SessionState.RUNNING && starts === 2,
        `${id} to run`,
      );
      assert.deepEqual([status.cause, status.restarts], [SessionCause.RECOVERED, 0]);
    }
    const slept = await world.until(
      'pauses',
      ({ state }) => state === SessionState.HIBERNATED,
      'the loss of its memory',
    );
    assert.match(slept.reason, /its memory was lost/);
    assert.equal(world.latest('stops')!.state, SessionState.HIBERNATED);
  });

  test('have the rest of their output read, and its log closed, before they are brought up again', async () => {
    let write: (text: string) => void = () => undefined;
    const engine = new FakeSessionEngine({
      program: async (process) => {
        write = process.write;
        process.write('begun ');
        return await process.stopped;
      },
    });
    await using world = new SessionsWorld(engine);
    await up(await world.start(), 'one');
    await world.untilLogged('one.1', 1, 'begun ');
    await world.letGo();
    write('last words');
    engine.reboot();
    world.bootId = newId();
    await world.start();
    await world.until('one', ({ starts, state }) => starts === 2 && state === SessionState.RUNNING, 'it to run again');
    assert.equal(world.log('one.1', 1).text(), 'begun last words');
    assert.equal(world.log('one.1', 1).closed, 1);
    assert.equal(world.log('one.1', 2).closed, 0);
  });

  test('are brought up again when the engine comes back without them', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    await up(sessions, 'one');
    engine.reboot();
    const back = await world.until(
      'one',
      ({ starts, state }) => starts === 2 && state === SessionState.RUNNING,
      'it to run again',
    );
    assert.equal(back.cause, SessionCause.RECOVERED);
  });

  test('are left alone if they moved while the engine was asked', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine, {}, fastClock(100));
    const sessions = await world.start();
    await up(sessions, 'one');
    await new Sent(sessions, hibernate('one', 1)).done;
    const answered = Promise.withResolvers<void>();
    const list = engine.listContainers.bind(engine);
    let asked = 0;
    engine.listContainers = async (...args) => {
      const rows = await list(...args);
      asked += 1;
      await answered.promise;
      return rows;
    };
    await until('the engine to be asked', () => asked > 0);
    await new Sent(sessions, { case: 'wake', value: { sessionId: 'one' } }).done;
    answered.resolve();
    await until('the answer to be looked at', () => asked > 1);
    assert.deepEqual(
      world.reported.filter(({ cause }) => cause === SessionCause.RECOVERED),
      [],
    );
  });

  test('are pulled again when image and container were removed meanwhile', async () => {
    const engine = new FakeSessionEngine({ images: [], pulls: ['desktop:1'] });
    await using world = new SessionsWorld(engine);
    const first = await world.start();
    await up(first, 'one');
    await world.letGo();
    engine.containers.clear();
    engine.images.clear();
    await world.start();
    await world.until('one', ({ starts, state }) => starts === 2 && state === SessionState.RUNNING, 'it to run again');
  });

  test('leave nothing of ours behind that no session has, and nothing of others is touched', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const first = await world.start();
    await up(first, 'one');
    const { spec } = engine.only;
    await world.letGo();
    const labels = { ...spec.labels, 'longline.session': 'lost' };
    const stray = await engine.createContainer({ ...spec, name: 'longline-session-lost', labels });
    await engine.createNetwork({ name: 'longline-session-lost', labels, internal: false, subnet: '10.9.0.0/28' });
    const other = { ...labels, 'longline.sessions': 'another agent' };
    const foreign = await engine.createContainer({ ...spec, name: 'foreign', labels: other });
    await world.start();
    assert.ok(!engine.containers.has(stray));
    assert.ok(!engine.networks.has('longline-session-lost'));
    assert.ok(engine.containers.has(foreign));
    assert.equal(engine.containers.size, 2);
  });
});

suite('a session whose record can not be read', () => {
  test('is left alone until it is stopped', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    await up(await world.start(), 'one');
    await world.letGo();
    await world.state.put('session/one', Buffer.from('{"sessionId":"one","form":"of a later version"}'));
    const second = await world.start();
    assert.equal(engine.only.facts().state, 'running');
    for (const action of [hibernate('one', 1), startOf('one', {}, 2)]) {
      const refused = await new Sent(second, action).result();
      assert.equal(refused.error?.reason, 'wrong_state');
      assert.match(refused.error!.message, /record of session one can't be read; stop it/);
    }
    await world.letGo();
    const third = await world.start();
    assert.equal(engine.only.facts().state, 'running', 'also by the next agent');
    const stopped = await new Sent(third, { case: 'stop', value: { sessionId: 'one' } }).result();
    assert.equal(stopped.outcome, 'succeeded', stopped.error?.message ?? '');
    assert.deepEqual(await engine.listContainers('longline.sessions', world.instanceId), []);
    await up(third, 'one');
  });
});

suite('a session that ends by itself', () => {
  test('is started again after a while, and left as failed after too many restarts in a row', async () => {
    const engine = new FakeSessionEngine({ program: async ({ run, stopped }) => (run === 1 ? await stopped : 4) });
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    await up(sessions, 'one', { restart: { ...quick, maxRetries: 2 } });
    engine.only.end(4);
    const waiting = await world.passed('one', ({ state }) => state === SessionState.RESTARTING, 'the wait');
    assert.deepEqual([waiting.cause, waiting.exitCode, waiting.restarts], [SessionCause.EXITED, 4, 1]);
    assert.ok(waiting.nextTryTime !== undefined);
    const failed = await world.until('one', ({ state }) => state === SessionState.FAILED, 'it to be given up');
    assert.ok([SessionCause.CRASH_LOOP, SessionCause.START_FAILED].includes(failed.cause));
    await until('it is cleared away', () => engine.containers.size + engine.networks.size === 0);
    assert.ok(world.events.some(({ type }) => type === 'session.ended'));
  });

  test('is noticed by the end of its output where the engine tells of no events', async () => {
    class Silent extends FakeSessionEngine {
      override async *sessionEvents(signal: AbortSignal) {
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      }
    }
    const engine = new Silent();
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    await up(sessions, 'one', { restart: quick });
    engine.only.end(3);
    await world.until('one', ({ starts, state }) => starts === 2 && state === SessionState.RUNNING, 'the restart');
    await world.letGo();
    await world.start();
    await until('its output to be followed', () => engine.calls.some((call) => call.startsWith('readOutput')));
    engine.only.end(3);
    await world.until('one', ({ starts, state }) => starts === 3 && state === SessionState.RUNNING, 'another restart');
  });

  test('is over when its policy says so: well with exit code 0, failed with any other', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    for (const [id, code, state] of [
      ['good', 0, SessionState.ENDED],
      ['bad', 5, SessionState.FAILED],
    ] as const) {
      await up(sessions, id, { restart: { mode: 1 } });
      engine.only.end(code);
      const over = await world.until(id, (status) => status.state === state, `${id} to be over`);
      assert.deepEqual([over.cause, over.exitCode], [SessionCause.EXITED, code]);
      await world.until(id, () => engine.containers.size + engine.networks.size === 0, 'it to be cleared away');
    }
  });

  test('says that it was out of memory', async () => {
    let first: FakeSessionProcess | undefined;
    const engine = new FakeSessionEngine({
      program: async (process) => {
        first ??= process;
        return await process.stopped;
      },
    });
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    await up(sessions, 'one', { restart: quick });
    first!.outOfMemory();
    const waiting = await world.passed('one', ({ state }) => state === SessionState.RESTARTING, 'the memory kill');
    assert.deepEqual([waiting.cause, waiting.oomKilled], [SessionCause.OUT_OF_MEMORY, true]);
    const back = await world.until(
      'one',
      ({ starts, state }) => starts === 2 && state === SessionState.RUNNING,
      'the restart',
    );
    assert.equal(back.oomKilled, false);
  });

  test('is asked over HTTP from inside where it can not be asked from outside', async () => {
    const asked: string[] = [];
    const engine = new FakeSessionEngine({
      execute: ({ argv }) => {
        asked.push(argv.join(' '));
        return { output: '', exitCode: 0 };
      },
    });
    await using world = new SessionsWorld(engine);
    const status = await up(await world.start(), 'one', {
      healthCheck: { probe: { case: 'http', value: { port: 8080, path: '/ok' } } },
    });
    assert.equal(status.state, SessionState.RUNNING);
    assert.deepEqual(asked, ['wget -q -O /dev/null http://127.0.0.1:8080/ok']);
  });

  test('is unhealthy first and restarted then, when its health check goes on failing', async () => {
    let sick = false;
    const engine = new FakeSessionEngine({ execute: () => ({ output: 'no screen', exitCode: sick ? 1 : 0 }) });
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    await up(sessions, 'one', {
      restart: quick,
      healthCheck: {
        probe: { case: 'command', value: { argv: ['x'] } },
        interval: duration(1000),
        retries: 1,
        restartAfter: 2,
      },
    });
    sick = true;
    const unhealthy = await world.passed('one', ({ state }) => state === SessionState.UNHEALTHY, 'the failing check');
    assert.match(unhealthy.healthOutput, /no screen/);
    await world.passed('one', ({ state }) => state === SessionState.RESTARTING, 'the restart');
    sick = false;
    await world.until(
      'one',
      ({ state, starts }) => state === SessionState.RUNNING && starts === 2,
      'it to be well again',
    );
  });
});

suite('an agent that is killed', () => {
  const startSteps: readonly FakeSessionMethod[] = [
    ...(['inspectContainer', 'findNetwork', 'createNetwork', 'findVolume', 'createVolume', 'findImage'] as const),
    ...(['pullImage', 'createContainer', 'attachOutput', 'startContainer'] as const),
  ];
  for (const step of startSteps) {
    test(`at ${step} of a start goes on with it, once`, async () => {
      const engine = new FakeSessionEngine({ images: [], pulls: ['desktop:1'] });
      await using world = new SessionsWorld(engine);
      const first = await world.start();
      engine.hold(step);
      const spec = { volumes: [{ name: 'home', target: '/home' }] };
      const begun = new Sent(first, startOf('one', spec));
      await until(`${step} to be called`, () => engine.calls.some((call) => call.startsWith(step)));
      await world.letGo();
      assert.equal(await begun.done, undefined, 'a command that was let go has no result');
      engine.release(step);
      const second = await world.start();
      const { outcome, error } = await new Sent(second, startOf('one', spec), true).result();
      assert.equal(outcome, 'succeeded', error?.message ?? '');
      assert.equal(engine.only.running, true);
      assert.deepEqual([engine.networks.size, engine.volumes.size], [1, 1]);
    });
  }

  for (const [tier, step] of [
    [1, 'pauseContainer'],
    [2, 'stopContainer'],
  ] as const) {
    test(`at ${step} of a hibernation goes on with it`, async () => {
      const engine = new FakeSessionEngine();
      await using world = new SessionsWorld(engine);
      const first = await world.start();
      await up(first, 'one');
      engine.hold(step);
      const begun = new Sent(first, hibernate('one', tier));
      await until(`${step} to be called`, () => engine.calls.some((call) => call.startsWith(step)));
      await world.letGo();
      assert.equal(await begun.done, undefined);
      engine.release(step);
      const second = await world.start();
      const { outcome, error, status } = await new Sent(second, hibernate('one', tier), true).result();
      assert.equal(outcome, 'succeeded', error?.message ?? '');
      assert.equal(status!.state, tier === 1 ? SessionState.PAUSED : SessionState.HIBERNATED);
      assert.equal(engine.only.facts().state, tier === 1 ? 'paused' : 'exited');
    });
  }

  test('in a stop goes on with it, and a stop that can not reach the engine is made up for', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const first = await world.start();
    await up(first, 'one');
    engine.failNext('removeContainer', new LonglineError('unavailable', 'gone'));
    const failed = await new Sent(first, { case: 'stop', value: { sessionId: 'one' } }).result();
    assert.equal(failed.outcome, 'failed');
    assert.equal(failed.status!.state, SessionState.STOPPING);
    await world.letGo();
    await world.start();
    await world.until('one', ({ state }) => state === SessionState.ENDED, 'the rest of the stop');
    assert.equal(engine.containers.size + engine.networks.size, 0);
  });
});

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { duration, sessionSpecMessage } from '../../../src/capabilities/sessions/wire.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { FakeSessionEngine } from '../../fixtures/fake-session-engine.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';
import {
  Sent,
  SessionCause,
  SessionState,
  SessionStep,
  SessionStepState,
  SessionsWorld,
  startOf,
  up,
} from './sessions-fixture.ts';

const { DONE, FAILED, UNDONE } = SessionStepState;

function stop(sessionId: string, removeVolumes = false) {
  return { case: 'stop', value: { sessionId, removeVolumes, reason: 'a test' } } as const;
}

function hibernate(sessionId: string, tier: 1 | 2 | 3) {
  return { case: 'hibernate', value: { sessionId, tier } } as const;
}

function wake(sessionId: string) {
  return { case: 'wake', value: { sessionId } } as const;
}

suite('a session', () => {
  test('comes up in steps, each told, and leaves nothing but its volume when it is stopped', async () => {
    const engine = new FakeSessionEngine({
      images: [],
      pulls: ['desktop:1'],
      program: async (process) => {
        process.write('hello\n');
        process.listen(5901);
        return await process.stopped;
      },
    });
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    const spec = sessionSpecMessage({
      image: 'desktop:1',
      volumes: [{ name: 'home', target: '/home/user' }],
      ports: [{ name: 'vnc', number: 5901 }],
      healthCheck: { probe: { case: 'command', value: { argv: ['true'] } } },
    });
    const sent = new Sent(sessions, startOf('one', spec));
    const { outcome, status, steps, unchanged } = await sent.result();
    assert.equal(outcome, 'succeeded');
    assert.equal(unchanged, false);
    const { ADMIT, NETWORK, VOLUME, PULL, CREATE, START, RUNNING, HEALTHY, TUNNEL_READY } = SessionStep;
    const done = steps.filter(({ state }) => state === DONE).map(({ step }) => step);
    assert.deepEqual(done, [ADMIT, NETWORK, VOLUME, PULL, CREATE, START, RUNNING, HEALTHY, TUNNEL_READY]);
    assert.ok(sent.steps.some(({ pull }) => pull?.bytesTotal === 100n && pull.bytesDone === 10n));
    assert.equal(status!.state, SessionState.RUNNING);
    assert.equal(status!.starts, 1);
    assert.deepEqual(
      status!.ports.map(({ number, reachable }) => [number, reachable]),
      [[5901, true]],
    );
    await world.untilLogged('one.1', 1, 'hello\n');

    const ended = await new Sent(sessions, stop('one')).result();
    assert.equal(ended.outcome, 'succeeded');
    assert.equal(ended.status!.state, SessionState.ENDED);
    assert.equal(ended.status!.cause, SessionCause.REQUESTED);
    assert.equal(engine.containers.size, 0);
    assert.equal(engine.networks.size, 0);
    assert.deepEqual([...engine.volumes.keys()], ['longline-session-one.home']);
    assert.equal(world.log('one.1', 1).closed, 1);

    const again = await new Sent(sessions, stop('one', true)).result();
    assert.equal(again.outcome, 'succeeded');
    assert.equal(engine.volumes.size, 0);
  });

  test('is started once for one generation and hash, refused for another hash or an older generation', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    await up(sessions, 'one');
    const same = await new Sent(sessions, startOf('one')).result();
    assert.deepEqual([same.outcome, same.unchanged], ['succeeded', true]);
    assert.equal(engine.containers.size, 1);
    const other = await new Sent(sessions, startOf('one', {}, 1, 2)).result();
    assert.equal(other.error?.reason, 'already_exists');
    const early = await new Sent(sessions, startOf('one', {}, 2, 2)).result();
    assert.equal(early.error?.reason, 'wrong_state');
    assert.match(early.error!.message, /is running; a start of generation 2 needs one that is over/);
    await new Sent(sessions, stop('one')).result();
    const next = await new Sent(sessions, startOf('one', {}, 2, 2)).result();
    assert.deepEqual([next.outcome, next.status?.generation], ['succeeded', 2n]);
    const older = await new Sent(sessions, startOf('one', {}, 1, 1)).result();
    assert.equal(older.error?.reason, 'stale');
  });

  test('undoes every step before the one that failed, and says why', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    engine.failNext('startContainer', new LonglineError('invalid', 'exec: "nothing": executable file not found'));
    const { outcome, error, status, steps } = await new Sent(
      sessions,
      startOf('one', { volumes: [{ name: 'home', target: '/home' }] }),
    ).result();
    assert.equal(outcome, 'failed');
    assert.match(error!.message, /executable file not found/);
    assert.equal(status!.state, SessionState.FAILED);
    assert.equal(status!.cause, SessionCause.START_FAILED);
    assert.ok(steps.some(({ step, state }) => step === SessionStep.START && state === FAILED));
    const { CREATE, VOLUME, NETWORK } = SessionStep;
    assert.deepEqual(
      steps.filter(({ state }) => state === UNDONE).map(({ step }) => step),
      [CREATE, VOLUME, NETWORK],
    );
    assert.equal(engine.containers.size + engine.networks.size + engine.volumes.size, 0);
  });

  test('says what an unknown image, a health check that never passes and a program that ends at once make of it', async () => {
    const engine = new FakeSessionEngine({
      program: async ({ spec, stopped }) => (spec.env['QUICK'] === '1' ? 3 : await stopped),
      execute: () => ({ output: 'no display', exitCode: 1 }),
    });
    await using world = new SessionsWorld(engine, {}, fastClock(20));
    const sessions = await world.start();
    const unknown = await new Sent(sessions, startOf('unknown', { image: 'nowhere:1' })).result();
    assert.equal(unknown.status!.cause, SessionCause.IMAGE_UNAVAILABLE);
    const sick = await new Sent(
      sessions,
      startOf('sick', {
        healthCheck: { probe: { case: 'command', value: { argv: ['check'] } } },
        startTimeout: duration(10_000),
      }),
    ).result();
    assert.equal(sick.status!.cause, SessionCause.START_TIMEOUT);
    assert.match(
      sick.error!.message,
      /health check to pass; the last try said: "check" ended with exit code 1: no display/,
    );
    const quick = await new Sent(
      sessions,
      startOf('quick', { env: { QUICK: '1' }, ports: [{ name: 'x', number: 80 }] }),
    ).result();
    assert.match(quick.error!.message, /ended with exit code 3 before it was ready/);
    assert.equal(engine.containers.size + engine.networks.size, 0);
  });

  test('takes no network that was left over with a way out when it is to have none', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    await up(sessions, 'shut');
    const [left] = engine.networks.values();
    assert.equal(left!.internal, false);
    await new Sent(sessions, stop('shut')).result();
    engine.networks.set(left!.name, left!);
    const next = await new Sent(sessions, startOf('shut', { network: { internal: true } }, 2)).result();
    assert.equal(next.outcome, 'succeeded');
    assert.equal(engine.networks.get(left!.name)!.internal, true);
    assert.equal(engine.networks.size, 1);
  });

  test('never touches a container of its name that is not ours, and replaces an outdated one that is', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    const status = await up(sessions, 'mine');
    const own = engine.only.spec;
    await new Sent(sessions, stop('mine')).result();
    const foreign = await engine.createContainer({ ...own, name: 'longline-session-taken', labels: {} });
    const taken = await new Sent(sessions, startOf('taken')).result();
    assert.match(taken.error!.message, /taken by a container that is not this agent's/);
    assert.ok(engine.containers.has(foreign));
    const outdated = await engine.createContainer({ ...own, name: 'longline-session-mine' });
    const next = await new Sent(sessions, startOf('mine', { env: { A: 'b' } }, 2)).result();
    assert.equal(next.outcome, 'succeeded');
    assert.ok(!engine.containers.has(outdated));
    assert.notEqual(next.status!.containerId, status.containerId);
  });

  test('sleeps by pause and by stop and wakes from both; doing it twice changes nothing', async () => {
    const engine = new FakeSessionEngine({
      program: async (process) => {
        process.write(`run ${process.run}\n`);
        return await process.stopped;
      },
    });
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    await up(sessions, 'one');
    const paused = await new Sent(sessions, hibernate('one', 1)).result();
    assert.equal(paused.status!.state, SessionState.PAUSED);
    assert.equal(engine.only.facts().state, 'paused');
    assert.equal((await new Sent(sessions, hibernate('one', 1)).result()).unchanged, true);
    const awake = await new Sent(sessions, wake('one')).result();
    assert.deepEqual([awake.status!.state, awake.status!.starts], [SessionState.RUNNING, 1]);
    const same = await new Sent(sessions, wake('one')).result();
    assert.deepEqual([same.outcome, same.unchanged], ['succeeded', true]);
    await new Sent(sessions, hibernate('one', 1)).result();
    const deeper = await new Sent(sessions, hibernate('one', 2)).result();
    assert.equal(deeper.status!.state, SessionState.HIBERNATED);
    assert.equal(engine.only.facts().state, 'exited');
    const back = await new Sent(sessions, wake('one')).result();
    assert.deepEqual([back.status!.state, back.status!.starts], [SessionState.RUNNING, 2]);
    await world.untilLogged('one.1', 1, 'run 1\n');
    await world.untilLogged('one.1', 2, 'run 2\n');
    const frozen = await new Sent(sessions, hibernate('one', 3)).result();
    assert.equal(frozen.error?.reason, 'unsupported');
    assert.match(frozen.error!.message, /the fake makes none/);
  });

  test('is made anew from its record when its container is gone', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine, {}, fastClock(20));
    const sessions = await world.start();
    await up(sessions, 'one');
    await new Sent(sessions, hibernate('one', 2)).result();
    engine.containers.clear();
    engine.networks.clear();
    const back = await new Sent(sessions, wake('one')).result();
    assert.equal(back.status?.state, SessionState.RUNNING, back.error?.message ?? '');
    assert.equal(engine.networks.size, 1);
    await new Sent(sessions, hibernate('one', 1)).result();
    engine.containers.clear();
    const again = await new Sent(sessions, wake('one')).result();
    assert.deepEqual(
      [again.status?.state, again.status?.starts],
      [SessionState.RUNNING, 3],
      again.error?.message ?? '',
    );
  });

  test('refuses to hibernate what is starting, and a stop ends the start and leaves nothing', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    engine.hold('startContainer');
    const starting = new Sent(sessions, startOf('one'));
    await world.until('one', ({ step }) => step === SessionStep.START, 'the start of the container');
    const refused = await new Sent(sessions, hibernate('one', 1)).result();
    assert.equal(refused.error?.reason, 'wrong_state');
    assert.match(refused.error!.message, /is starting; hibernate needs one that is running/);
    const stopped = await new Sent(sessions, stop('one')).result();
    assert.equal(stopped.outcome, 'succeeded');
    assert.equal((await starting.result()).outcome, 'cancelled');
    assert.equal(world.latest('one')!.state, SessionState.ENDED);
    assert.equal(engine.containers.size + engine.networks.size, 0);
  });

  test('does racing commands one after the other', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    await up(sessions, 'one');
    const results = await Promise.all([
      new Sent(sessions, hibernate('one', 2)).result(),
      new Sent(sessions, wake('one')).result(),
      new Sent(sessions, startOf('one')).result(),
      new Sent(sessions, stop('one')).result(),
    ]);
    for (const { outcome, error } of results) assert.equal(outcome, 'succeeded', error?.message ?? '');
    assert.equal(world.latest('one')!.state, SessionState.ENDED);
    assert.equal(engine.containers.size + engine.networks.size, 0);
  });

  test('is cancelled with its start, and nothing is left', async () => {
    const engine = new FakeSessionEngine();
    await using world = new SessionsWorld(engine);
    const sessions = await world.start();
    engine.hold('startContainer');
    const starting = new Sent(sessions, startOf('one'));
    await world.until('one', ({ step }) => step === SessionStep.START, 'the start of the container');
    starting.cancel();
    const { outcome, status } = await starting.result();
    assert.equal(outcome, 'cancelled');
    assert.deepEqual([status!.state, status!.cause], [SessionState.FAILED, SessionCause.CANCELLED]);
    assert.equal(engine.containers.size + engine.networks.size, 0);
  });

  test('is let in as long as there is room, counted by what each holds', async () => {
    const engine = new FakeSessionEngine();
    const limits = { maxCpus: 2, maxMemoryBytes: 4 * 1024 ** 3, maxSessions: 3 };
    await using world = new SessionsWorld(engine, { limits });
    const sessions = await world.start();
    await up(sessions, 'one');
    await up(sessions, 'two');
    const full = await new Sent(sessions, startOf('three')).result();
    assert.equal(full.error?.reason, 'limit');
    assert.match(full.error!.message, /cpu: asked 1 cores, reserved 2, max_cpu is 2/);
    await new Sent(sessions, hibernate('one', 1)).result();
    await up(sessions, 'three');
    const { reserved, known, asleep } = sessions.counts();
    assert.deepEqual([reserved.cpus, reserved.sessions, known, asleep], [2, 3, 3, 1]);
    const back = await new Sent(sessions, wake('one')).result();
    assert.equal(back.error?.reason, 'limit');
    assert.equal(world.latest('one')!.state, SessionState.PAUSED);
    await new Sent(sessions, stop('two')).result();
    assert.equal((await new Sent(sessions, wake('one')).result()).outcome, 'succeeded');
  });

  test('refuses what is malformed with every field, and what is unknown', async () => {
    await using world = new SessionsWorld(new FakeSessionEngine());
    const sessions = await world.start();
    const wrong = await new Sent(
      sessions,
      startOf('one', { image: '', ports: [{ name: 'A', number: 70_000 }], volumes: [{ name: 'x', target: '/proc' }] }),
    ).result();
    assert.deepEqual(
      wrong.error!.violations.map(({ field }) => field),
      ['spec.image', 'spec.volumes[0].target', 'spec.ports[0].name', 'spec.ports[0].number'],
    );
    assert.equal((await new Sent(sessions, stop('nobody')).result()).error?.reason, 'not_found');
    assert.equal((await new Sent(sessions, startOf('Not An Id')).result()).error?.reason, 'invalid');
  });
});

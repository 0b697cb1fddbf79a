// What becomes of jobs when the agent or the engine goes away, on a fake engine whose containers go on.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { JobReason, JobState, StdinMode } from '#gen/longline/v1/job_pb.js';
import { parseJobsConfig } from '../../../src/capabilities/jobs/config.ts';
import { containerSpec, LABEL } from '../../../src/capabilities/jobs/plan.ts';
import type { ContainerFacts } from '../../../src/capabilities/jobs/ports.ts';
import { parseJobSpec } from '../../../src/capabilities/jobs/spec.ts';
import { emptyJobSpec } from '../../../src/capabilities/jobs/wire.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { newId } from '../../../src/core/ids.ts';
import type { FakeProcess } from '../../fixtures/fake-container.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';
import { fakeEngine, JobsWorld, Reading, until } from './jobs-fixture.ts';

const RUN = { argv: ['work'] };
const LINES = 400;

/** Prints numbered lines; waits before the middle one and before the last. */
class Counter {
  readonly middle = Promise.withResolvers<void>();
  readonly end = Promise.withResolvers<void>();
  runs = 0;
  written = 0;

  readonly program = async (process: FakeProcess): Promise<number> => {
    this.runs += 1;
    for (let line = 1; line <= LINES; line++) {
      if (line === LINES / 2) await this.middle.promise;
      if (line === LINES) await this.end.promise;
      await process.write(line % 3 === 0 ? 'stderr' : 'stdout', `line ${line}\n`);
      this.written = line;
      if (line % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    return 7;
  };
}

function expected(stream: 'stdout' | 'stderr'): string {
  let text = '';
  for (let line = 1; line <= LINES; line++) if ((line % 3 === 0) === (stream === 'stderr')) text += `line ${line}\n`;
  return text;
}

function assertWhole(world: JobsWorld, id: string): void {
  assert.equal(world.logs.get(id).text('stdout'), expected('stdout'));
  assert.equal(world.logs.get(id).text('stderr'), expected('stderr'));
  assert.deepEqual(world.logs.get(id).gaps, []);
}

suite('a restarted agent', () => {
  test('goes on with a running job: every byte once, real exit code, one run', async () => {
    const counter = new Counter();
    const engine = fakeEngine({ program: () => counter.program });
    await using world = new JobsWorld(engine);
    const first = await world.start();
    const before = new Reading(first, RUN);
    await until(() => counter.written >= 100, 'the first lines');
    await first[Symbol.asyncDispose]();
    await before.done;
    assert.deepEqual(before.results, []);
    const second = await world.start([before.id]);
    const after = new Reading(second, RUN, { id: before.id, resumed: true });
    await after.step('adopted');
    counter.middle.resolve();
    await until(() => counter.written >= LINES - 1, 'the lines after the restart');
    counter.end.resolve();
    const result = await after.result();
    assert.deepEqual([result.state, result.exitCode], [JobState.FAILED, 7]);
    assertWhole(world, before.id);
    assert.equal(counter.runs, 1);
    assert.deepEqual(engine.containerIds, []);
    assert.equal(world.state.values.size, 0);
  });

  test('fetches the end of a job that ended while nobody was there', async () => {
    const counter = new Counter();
    const engine = fakeEngine({ program: () => counter.program });
    await using world = new JobsWorld(engine);
    const first = await world.start();
    const before = new Reading(first, RUN);
    await until(() => counter.written >= 100, 'the first lines');
    await first[Symbol.asyncDispose]();
    counter.middle.resolve();
    counter.end.resolve();
    await until(() => counter.written === LINES, 'the end');
    const second = await world.start([before.id]);
    const result = await new Reading(second, RUN, { id: before.id, resumed: true }).result();
    assert.deepEqual([result.state, result.reason, result.exitCode], [JobState.FAILED, JobReason.EXITED, 7]);
    assertWhole(world, before.id);
    assert.equal(counter.runs, 1);
    assert.deepEqual(engine.containerIds, []);
  });

  test('declares nothing lost of a job that is let go of while the end of it is fetched', async () => {
    const counter = new Counter();
    const engine = fakeEngine({ program: () => counter.program });
    await using world = new JobsWorld(engine);
    const first = await world.start();
    const before = new Reading(first, RUN);
    await until(() => counter.written >= 100, 'the first lines');
    await first[Symbol.asyncDispose]();
    counter.middle.resolve();
    counter.end.resolve();
    while ((await engine.inspect(engine.containerIds[0]!))?.state !== 'exited') await new Promise(setImmediate);
    const second = await world.start([before.id]);
    engine.hang('readLogs');
    const cut = new Reading(second, RUN, { id: before.id, resumed: true });
    await until(() => engine.calls.some((call) => call.startsWith('readLogs')), 'the log to be asked for');
    await second[Symbol.asyncDispose]();
    await cut.done;
    engine.release('readLogs');
    const third = await world.start([before.id]);
    const result = await new Reading(third, RUN, { id: before.id, resumed: true }).result();
    assert.equal(result.exitCode, 7);
    assertWhole(world, before.id);
  });

  test('closes no log of a killed job that is let go of while the rest of it is fetched', async () => {
    const engine = fakeEngine({
      program: () => async (process) => {
        await process.write('stdout', 'all there is');
        return await process.forever();
      },
    });
    await using world = new JobsWorld(engine, {}, fastClock(50));
    const first = await world.start();
    const job = new Reading(first, { ...RUN, stopGrace: { seconds: 0n } });
    await job.step('started');
    await until(() => world.logs.get(job.id).text() !== '', 'its output');
    engine.hang('kill');
    engine.hang('readLogs');
    job.cancel();
    await until(() => engine.calls.filter((call) => call.startsWith('kill')).length === 2, 'the second kill');
    engine.release('kill');
    await until(() => engine.calls.some((call) => call.startsWith('readLogs')), 'the log to be asked for');
    await first[Symbol.asyncDispose]();
    assert.deepEqual(job.results, []);
    assert.equal(world.logs.get(job.id).closed, 0);
    engine.release('readLogs');
    const second = await world.start([job.id]);
    const result = await new Reading(second, RUN, { id: job.id, resumed: true }).result();
    assert.equal(result.exitCode, 137);
    assert.equal(world.logs.get(job.id).text(), 'all there is');
    assert.deepEqual(world.logs.get(job.id).gaps, []);
  });

  test('begins no job whose resumption can not be recorded, and sees through what runs', async () => {
    const counter = new Counter();
    const engine = fakeEngine({ program: () => counter.program });
    await using world = new JobsWorld(engine);
    const first = await world.start();
    const running = new Reading(first, RUN);
    await until(() => counter.written >= 100, 'the first lines');
    await first[Symbol.asyncDispose]();
    const unbegun = newId();
    const second = await world.start([running.id, unbegun]);
    const unrecorded = () => {
      const durable = Promise.reject(new LonglineError('limit', 'no room for the audit log'));
      durable.catch(() => undefined);
      return { resumed: true, durable };
    };
    const refused = await new Reading(second, RUN, { id: unbegun, ...unrecorded() }).result();
    assert.deepEqual([refused.state, refused.reason], [JobState.REJECTED, JobReason.REJECTED]);
    assert.match(refused.error!.message, /no room for the audit log/);
    assert.equal(engine.containerIds.length, 1);
    const seen = new Reading(second, RUN, { id: running.id, ...unrecorded() });
    counter.middle.resolve();
    counter.end.resolve();
    assert.equal((await seen.result()).exitCode, 7);
    assertWhole(world, running.id);
    assert.equal(counter.runs, 1);
  });

  test('never runs a job again whose container is gone', async () => {
    const counter = new Counter();
    const engine = fakeEngine({ program: () => counter.program });
    await using world = new JobsWorld(engine);
    const first = await world.start();
    const before = new Reading(first, RUN);
    await before.step('started');
    await first[Symbol.asyncDispose]();
    await engine.remove(engine.containerIds[0]!);
    const second = await world.start([before.id]);
    const result = await new Reading(second, RUN, { id: before.id, resumed: true }).result();
    assert.equal(result.outcome, 'indeterminate');
    assert.deepEqual([result.state, result.reason], [JobState.INDETERMINATE, JobReason.INTERRUPTED]);
    assert.equal(counter.runs, 1);
    assert.equal(world.state.values.size, 0);
  });

  test('runs a job of which no trace is found, and one whose container was made but never started', async () => {
    const engine = fakeEngine({ program: () => async () => 0 });
    await using world = new JobsWorld(engine);
    const config = parseJobsConfig({});
    const image = { id: 'alpine:latest', pinned: 'alpine:latest', sizeBytes: 0 };
    const made = newId();
    const ids = { executionId: made, instanceId: world.instanceId, image };
    await engine.createContainer(containerSpec(parseJobSpec(emptyJobSpec('alpine:latest'), config), ids));
    // As left by a process that died between the record and the start.
    await world.state.put(`run/${made}`, Buffer.from(JSON.stringify({ containerId: engine.containerIds[0], atMs: 1 })));
    const jobs = await world.start([made]);
    assert.equal(engine.containerIds.length, 1);
    const remove = engine.remove.bind(engine);
    engine.remove = async (id) => {
      // Else a death right after this would leave a record without a container, which may not be run.
      if (id === engine.containerIds[0] && engine.calls.every((call) => !call.startsWith('start '))) {
        assert.ok(!world.state.values.has(`run/${made}`));
      }
      await remove(id);
    };
    assert.equal((await new Reading(jobs, RUN, { id: made, resumed: true }).result()).state, JobState.SUCCEEDED);
    assert.equal((await new Reading(jobs, RUN, { resumed: true }).result()).state, JobState.SUCCEEDED);
    assert.deepEqual(engine.containerIds, []);
  });

  test('does not run late what expired meanwhile', async () => {
    const engine = fakeEngine({ program: () => async () => 0 });
    await using world = new JobsWorld(engine);
    const result = await new Reading(await world.start(), RUN, { resumed: true, expiresAtMs: Date.now() - 1 }).result();
    assert.equal(result.state, JobState.REJECTED);
    assert.ok(!engine.calls.some((call) => call.startsWith('createContainer')));
  });

  test('counts a timeout from the start of the container', async () => {
    const hour = 3_600_000;
    const engine = fakeEngine({ program: () => (process) => process.forever() });
    await using world = new JobsWorld(engine);
    const spec = { ...RUN, timeout: duration(hour), stopGrace: duration(1) };
    const first = await world.start();
    const before = new Reading(first, spec);
    await before.step('started');
    await first[Symbol.asyncDispose]();
    // The agent comes back after the timeout: counted from its return the job would have an hour yet.
    const older = <T extends ContainerFacts | undefined>(facts: T): T =>
      facts?.startedAtMs === undefined ? facts : { ...facts, startedAtMs: facts.startedAtMs - hour };
    const { inspect, list } = { inspect: engine.inspect.bind(engine), list: engine.list.bind(engine) };
    engine.inspect = async (...args) => older(await inspect(...args));
    engine.list = async (...args) => (await list(...args)).map(older);
    const second = await world.start([before.id]);
    const result = await new Reading(second, spec, { id: before.id, resumed: true }).result();
    assert.equal(result.state, JobState.TIMED_OUT);
  });

  test('cancels a job that was cancelled meanwhile, and says that a cut input leaves success unproven', async () => {
    const engine = fakeEngine({
      program: () => async (process) => {
        for await (const _ of process.stdin);
        return 0;
      },
    });
    await using world = new JobsWorld(engine);
    const first = await world.start();
    const spec = { ...RUN, stdinMode: StdinMode.STREAM };
    const before = new Reading(first, spec);
    await before.step('started');
    await first.writeInput(before.id, 0, Buffer.from('half'), false);
    await first[Symbol.asyncDispose]();
    const second = await world.start([before.id]);
    const result = await new Reading(second, spec, { id: before.id, resumed: true }).result();
    assert.deepEqual([result.state, result.reason], [JobState.INDETERMINATE, JobReason.INTERRUPTED]);
    assert.equal(result.exitCode, 0);
    assert.match(result.error!.message, /standard input was cut/);
  });

  test('removes what no command waits for, and never touches what is not its own', async () => {
    const engine = fakeEngine({ program: () => (process) => process.forever() });
    await using world = new JobsWorld(engine);
    const image = { id: 'alpine:latest', pinned: '', sizeBytes: 0 };
    const spec = parseJobSpec(emptyJobSpec('alpine:latest'), parseJobsConfig({}));
    const mine = (executionId: string) => containerSpec(spec, { executionId, instanceId: world.instanceId, image });
    const wanted = await engine.createContainer(mine('wanted'));
    await engine.createContainer(mine('finished'));
    const warm = mine('warm');
    await engine.createContainer({ ...warm, labels: { [LABEL.instance]: world.instanceId, [LABEL.role]: 'warm' } });
    const foreign = engine.addForeign({ ...mine('x'), name: 'theirs', labels: {} });
    const other = engine.addForeign({
      ...mine('y'),
      name: 'another agent',
      labels: { ...warm.labels, [LABEL.instance]: 'b' },
    });
    await world.state.put('run/finished', Buffer.from('{}'));
    await world.start(['wanted']);
    assert.deepEqual([...engine.containerIds].sort(), [wanted, foreign, other].sort());
    assert.equal(world.state.values.size, 0);
  });

  test('does not take a container for its own because of its name', async () => {
    const engine = fakeEngine({ program: () => async () => 0 });
    await using world = new JobsWorld(engine);
    const id = newId();
    const ids = {
      executionId: id,
      instanceId: 'somebody else',
      image: { id: 'alpine:latest', pinned: '', sizeBytes: 0 },
    };
    engine.addForeign(containerSpec(parseJobSpec(emptyJobSpec('alpine:latest'), parseJobsConfig({})), ids));
    const jobs = await world.start();
    const result = await new Reading(jobs, RUN, { id }).result();
    assert.deepEqual([result.state, result.reason], [JobState.FAILED, JobReason.START_FAILED]);
    assert.match(result.error!.message, /is not this agent's/);
    assert.equal(engine.containerIds.length, 1);
  });

  test('adopts later if the engine is away at first, and spares what came meanwhile', async () => {
    const engine = fakeEngine({ program: () => (process) => process.forever() });
    await using world = new JobsWorld(engine, {}, fastClock(20));
    const ids = {
      executionId: 'old',
      instanceId: world.instanceId,
      image: { id: 'alpine:latest', pinned: '', sizeBytes: 0 },
    };
    const old = await engine.createContainer(
      containerSpec(parseJobSpec(emptyJobSpec('alpine:latest'), parseJobsConfig({})), ids),
    );
    engine.failNext('list', new LonglineError('unavailable', 'away'));
    const jobs = await world.start();
    const job = new Reading(jobs, RUN);
    await job.step('started');
    await until(() => !engine.containerIds.includes(old), 'the stray to be removed');
    assert.equal(engine.containerIds.length, 1);
    job.cancel();
    assert.equal((await job.result()).state, JobState.CANCELLED);
  });
});

suite('a lost engine', () => {
  test('that comes back finds the job running on, with every byte once', async () => {
    const counter = new Counter();
    const engine = fakeEngine({ program: () => counter.program });
    await using world = new JobsWorld(engine, {}, fastClock(20));
    const job = new Reading(await world.start(), RUN);
    await until(() => counter.written >= 100, 'the first lines');
    engine.lose();
    counter.middle.resolve();
    await until(() => counter.written >= LINES - 1, 'lines while it is away');
    engine.recover();
    await job.step('adopted');
    counter.end.resolve();
    const result = await job.result();
    assert.deepEqual([result.state, result.exitCode], [JobState.FAILED, 7]);
    assertWhole(world, job.id);
    assert.equal(counter.runs, 1);
    assert.deepEqual(engine.containerIds, []);
  });

  test('whose restart killed the job is the reason of its end', async () => {
    const engine = fakeEngine({ program: () => (process) => process.forever() });
    await using world = new JobsWorld(engine, {}, fastClock(20));
    const job = new Reading(await world.start(), RUN);
    await job.step('started');
    const [id] = engine.containerIds;
    engine.lose();
    engine.recover();
    await engine.kill(id!, 'SIGKILL');
    const result = await job.result();
    assert.deepEqual([result.state, result.reason, result.exitCode], [JobState.FAILED, JobReason.ENGINE_LOST, 137]);
    assert.deepEqual(engine.containerIds, []);
  });

  test('that never comes back leaves the outcome unknown', async () => {
    const engine = fakeEngine({ program: () => (process) => process.forever() });
    await using world = new JobsWorld(engine, { engineLossLimitMs: 2000 }, fastClock(100));
    const job = new Reading(await world.start(), RUN);
    await job.step('started');
    engine.lose();
    const result = await job.result();
    assert.deepEqual([result.state, result.reason], [JobState.INDETERMINATE, JobReason.ENGINE_LOST]);
    engine.recover();
    await until(() => engine.containerIds.length === 0, 'the container to be removed when it is back');
  });

  test('at each call of a launch still gives exactly one run', async () => {
    for (const method of ['findImage', 'createContainer', 'attach', 'armExit', 'start', 'inspect'] as const) {
      let runs = 0;
      const engine = fakeEngine({
        program: () => async () => {
          runs += 1;
          return 0;
        },
      });
      await using world = new JobsWorld(engine, {}, fastClock(20));
      const jobs = await world.start();
      engine.failNext(method, new LonglineError('unavailable', 'away for a moment'));
      const result = await new Reading(jobs, RUN).result();
      assert.equal(result.state, JobState.SUCCEEDED, method);
      assert.equal(runs, 1, method);
      assert.deepEqual(engine.containerIds, [], method);
      assert.equal(world.state.values.size, 0, method);
    }
  });

  test('that can not give the rest of the output tells the end, and declares the loss', async () => {
    for (const reason of ['unavailable', 'internal'] as const) {
      const end = Promise.withResolvers<void>();
      const engine = fakeEngine({
        program: () => async (process) => {
          await process.write('stdout', 'first\n');
          await end.promise;
          await process.write('stdout', 'last\n');
          return 4;
        },
      });
      await using world = new JobsWorld(engine, { engineLossLimitMs: 3000 }, fastClock(50));
      const job = new Reading(await world.start(), RUN);
      await job.step('started');
      await until(() => world.logs.get(job.id).text() === 'first\n', 'the first line');
      engine.lose();
      end.resolve();
      await until(() => engine.containerIds.length === 1, 'the container to be there');
      for (let count = 0; count < 1000; count++) engine.failNext('readLogs', new LonglineError(reason, 'no logs'));
      engine.recover();
      const result = await job.result();
      assert.deepEqual([result.state, result.exitCode], [JobState.FAILED, 4], reason);
      assert.equal(result.outputTruncated, true);
      assert.equal(world.logs.get(job.id).text(), 'first\n');
      assert.ok(world.logs.get(job.id).gaps.every((gap) => gap.reason === 'unrecoverable'));
      assert.deepEqual(engine.containerIds, []);
    }
  });

  test('before the start ends as START_FAILED if it never comes back', async () => {
    const engine = fakeEngine({ program: () => async () => 0 });
    await using world = new JobsWorld(engine, { engineLossLimitMs: 500 }, fastClock(100));
    const jobs = await world.start();
    engine.lose();
    const result = await new Reading(jobs, RUN).result();
    assert.deepEqual([result.state, result.reason], [JobState.FAILED, JobReason.START_FAILED]);
    assert.equal(result.error!.retryable, true);
  });
});

suite('any fault of any call', () => {
  for (const method of [
    'findImage',
    'createContainer',
    'attach',
    'armExit',
    'start',
    'inspect',
    'kill',
    'remove',
    'readLogs',
    'usage',
  ] as const) {
    for (const reason of ['internal', 'not_found', 'limit', 'invalid', 'unavailable', 'cancelled'] as const) {
      test(`${method} failing with ${reason}: one result, nothing left`, async () => {
        const engine = fakeEngine({ program: () => (process) => process.forever() });
        await using world = new JobsWorld(engine, { engineLossLimitMs: 2000 }, fastClock(200));
        const jobs = await world.start();
        engine.failNext(method, new LonglineError(reason, `${method} was made to fail`));
        const job = new Reading(jobs, { ...RUN, timeout: duration(1000) });
        const result = await job.result();
        assert.equal(job.results.length, 1);
        assert.ok(result.state >= JobState.SUCCEEDED);
        await until(() => engine.containerIds.length === 0, 'the container to be removed');
        assert.deepEqual(jobs.counts(), { running: 0, queued: 0, max: 5, warm: 0 });
        assert.equal(world.state.values.size, 0);
      });
    }
  }
});

function duration(ms: number) {
  return {
    $typeName: 'google.protobuf.Duration' as const,
    seconds: BigInt(Math.floor(ms / 1000)),
    nanos: (ms % 1000) * 1e6,
  };
}

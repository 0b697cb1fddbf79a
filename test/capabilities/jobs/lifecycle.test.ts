// One job on a fake engine, through all of its phases.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { JobReason, JobState, PullPolicy } from '#gen/longline/v1/job_pb.js';
import { LonglineError } from '../../../src/core/errors.ts';
import type { FakeProcess } from '../../fixtures/fake-container.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';
import { encodeJobAction } from './job-messages.ts';
import { fakeEngine, IdEngine, JobsWorld, Reading, until } from './jobs-fixture.ts';

const RUN = { argv: ['work'] };
const chatter = async (process: FakeProcess): Promise<number> => {
  for (;;) {
    await process.write('stdout', 'more\n');
    await new Promise((resolve) => setImmediate(resolve));
  }
};
const sleeper = (process: FakeProcess): Promise<number> => process.forever();
const seconds = (count: number) => ({
  $typeName: 'google.protobuf.Duration' as const,
  seconds: BigInt(count),
  nanos: 0,
});

suite('a job that ends by itself', () => {
  test('is told once with its output and times, and leaves no container and no record', async () => {
    const engine = fakeEngine({
      program: () => async (process) => {
        await process.write('stdout', 'hello\n');
        await process.write('stderr', 'oops\n');
        return 0;
      },
    });
    await using world = new JobsWorld(engine);
    const jobs = await world.start();
    const job = new Reading(jobs, RUN);
    const result = await job.result();
    assert.equal(result.outcome, 'succeeded');
    assert.equal(result.state, JobState.SUCCEEDED);
    assert.equal(result.reason, JobReason.EXITED);
    assert.equal(result.exitCode, 0);
    assert.equal(result.stdoutBytes, 6n);
    assert.equal(result.stderrBytes, 5n);
    assert.equal(result.outputTruncated, false);
    assert.match(result.image, /^alpine@sha256:/);
    assert.ok(result.startTime!.seconds > 0n && result.endTime!.seconds >= result.startTime!.seconds);
    assert.deepEqual(job.names, ['creating', 'started']);
    const log = world.logs.get(job.id);
    assert.equal(log.text(), 'hello\n');
    assert.equal(log.text('stderr'), 'oops\n');
    assert.equal(log.closed, 1);
    assert.deepEqual(engine.containerIds, []);
    assert.equal(world.state.values.size, 0);
    assert.deepEqual(jobs.counts(), { running: 0, queued: 0, max: 5, warm: 0 });
  });

  test('goes through create, attach and wait before start, with its record written', async () => {
    let recorded = -1;
    const engine = fakeEngine({
      program: () => async () => {
        recorded = world.state.values.size;
        return 0;
      },
    });
    const world = new JobsWorld(engine);
    await using _ = world;
    const jobs = await world.start();
    await new Reading(jobs, RUN).result();
    const order = engine.calls.map((call) => call.split(' ')[0]);
    assert.ok(order.indexOf('createContainer') < order.indexOf('attach'));
    assert.ok(order.indexOf('attach') < order.indexOf('start'));
    assert.ok(order.indexOf('armExit') < order.indexOf('start'));
    assert.equal(recorded, 1);
  });

  test('has its output kept that comes before the engine says that it started', async () => {
    const answered = Promise.withResolvers<void>();
    class SlowToAnswer extends IdEngine {
      override async start(id: string, signal?: AbortSignal): Promise<void> {
        await super.start(id, signal);
        await answered.promise;
      }
    }
    const program = () => async (process: FakeProcess) => {
      await process.write('stdout', 'early\n');
      return await process.forever();
    };
    await using world = new JobsWorld(new SlowToAnswer({ images: ['alpine:latest'], program }));
    const jobs = await world.start();
    const job = new Reading(jobs, { ...RUN, stopGrace: seconds(0) });
    await until(() => world.logs.get(job.id).text() === 'early\n', 'the output');
    assert.deepEqual(job.names, ['creating']);
    answered.resolve();
    await job.step('started');
    job.cancel();
    assert.equal((await job.result()).stdoutBytes, 6n);
  });

  for (const [code, reason, signal] of [
    [3, JobReason.EXITED, ''],
    [139, JobReason.SIGNALED, 'SIGSEGV'],
    [255, JobReason.EXITED, ''],
  ] as const) {
    test(`fails with exit code ${code}`, async () => {
      await using world = new JobsWorld(fakeEngine({ program: () => async () => code }));
      const result = await new Reading(await world.start(), RUN).result();
      assert.equal(result.outcome, 'failed');
      assert.deepEqual([result.state, result.reason, result.signal], [JobState.FAILED, reason, signal]);
      assert.equal(result.exitCode, code);
    });
  }

  test('is out of memory if its main process was killed for it', async () => {
    await using world = new JobsWorld(
      fakeEngine({ program: () => async (process) => process.outOfMemory('main').then(() => 0) }),
    );
    const job = new Reading(await world.start(), RUN);
    const result = await job.result();
    assert.equal(result.reason, JobReason.OUT_OF_MEMORY);
    assert.equal(result.oomKilled, true);
    assert.deepEqual(await job.step('outOfMemory'), { $typeName: 'longline.v1.JobOutOfMemory', main: true });
  });

  test('keeps its own exit code if only a child was killed for memory', async () => {
    const engine = fakeEngine({
      program: () => async (process) => {
        await process.outOfMemory('child');
        await told.promise;
        return 0;
      },
    });
    const told = Promise.withResolvers<void>();
    await using world = new JobsWorld(engine, {}, fastClock(20));
    const job = new Reading(await world.start(), RUN);
    assert.deepEqual(await job.step('outOfMemory'), { $typeName: 'longline.v1.JobOutOfMemory', main: false });
    told.resolve();
    const result = await job.result();
    assert.deepEqual([result.reason, result.exitCode, result.oomKilled], [JobReason.EXITED, 0, true]);
  });

  test('tells the highest use that was seen', async () => {
    const done = Promise.withResolvers<void>();
    const engine = fakeEngine({
      program: () => async (process) => {
        process.use({ cpuNanos: 5_000_000_000, memoryPeakBytes: 7_000_000 });
        await done.promise;
        return 0;
      },
    });
    await using world = new JobsWorld(engine, {}, fastClock(50));
    const job = new Reading(await world.start(), RUN);
    await until(() => engine.calls.filter((call) => call.startsWith('usage')).length >= 2, 'usage to be asked twice');
    done.resolve();
    const result = await job.result();
    assert.equal(result.cpuTime!.seconds, 5n);
    assert.equal(result.memoryPeakBytes, 7_000_000n);
  });
});

suite('output', () => {
  test('past the limit is dropped and declared, and the job still runs to its end', async () => {
    const engine = fakeEngine({
      program: () => async (process) => {
        for (let count = 0; count < 500; count++) await process.write('stdout', 'x'.repeat(1000));
        await process.write('stderr', 'end');
        return 0;
      },
    });
    await using world = new JobsWorld(engine);
    const job = new Reading(await world.start(), { ...RUN, maxOutputBytes: 12_345n });
    const result = await job.result();
    const log = world.logs.get(job.id);
    assert.equal(result.state, JobState.SUCCEEDED);
    assert.equal(result.stdoutBytes, 500_000n);
    assert.equal(result.outputTruncated, true);
    assert.equal(log.text().length, 12_345);
    assert.equal(log.text('stderr'), 'end');
    assert.equal(log.gaps[0]!.from, 12_345);
    assert.ok(log.gaps.length < 10, `${log.gaps.length} gaps were declared`);
    assert.ok(log.gaps.every((gap) => gap.reason === 'output_limit' && gap.stream === 'stdout'));
    assert.equal(
      log.gaps.reduce((sum, gap) => sum + gap.bytes, 0),
      500_000 - 12_345,
    );
  });

  test('that the log refuses ends the job with HOST_LIMIT, and no container is left', async () => {
    const engine = fakeEngine({
      program: () => chatter,
    });
    await using world = new JobsWorld(engine, {}, fastClock(20));
    const jobs = await world.start();
    const job = new Reading(jobs, RUN);
    await job.step('started');
    world.logs.get(job.id).failure = new LonglineError('limit', 'no space left on the disk of the spool');
    const result = await job.result();
    assert.deepEqual([result.state, result.reason], [JobState.FAILED, JobReason.HOST_LIMIT]);
    assert.match(result.error!.message, /could not be kept: no space left/);
    assert.equal(result.outputTruncated, true);
    assert.deepEqual(engine.containerIds, []);
  });

  test('that can not be logged at all keeps the job from starting', async () => {
    const engine = fakeEngine({ program: () => async () => 0 });
    await using world = new JobsWorld(engine);
    world.logs.failure = new Error('ENOSPC');
    const result = await new Reading(await world.start(), RUN).result();
    assert.deepEqual([result.state, result.reason], [JobState.FAILED, JobReason.HOST_LIMIT]);
    assert.ok(!engine.calls.some((call) => call.startsWith('start ')));
    assert.deepEqual(engine.containerIds, []);
  });

  test('that hangs in the log does not keep a cancel from ending the job', async () => {
    const engine = fakeEngine({
      program: () => chatter,
    });
    await using world = new JobsWorld(engine, {}, fastClock(400));
    const job = new Reading(await world.start(), RUN);
    await job.step('started');
    const stuck = Promise.withResolvers<void>();
    world.logs.get(job.id).gate = stuck.promise;
    job.cancel();
    const result = await job.result();
    assert.equal(result.state, JobState.CANCELLED);
    assert.match(result.error!.message, /log took no output/);
    assert.deepEqual(engine.containerIds, []);
    stuck.resolve();
  });
});

suite('a job that is stopped', () => {
  test('by its timeout ends as TIMED_OUT after TERM', async () => {
    const engine = fakeEngine({
      program: () => (process) => new Promise((resolve) => process.trap('SIGTERM', () => resolve(9))),
    });
    await using world = new JobsWorld(engine, {}, fastClock(50));
    const job = new Reading(await world.start(), { ...RUN, timeout: seconds(1) });
    const result = await job.result();
    assert.equal(result.outcome, 'timed_out');
    assert.deepEqual([result.state, result.reason], [JobState.TIMED_OUT, JobReason.TIMEOUT]);
    assert.equal(result.exitCode, 9);
    assert.ok(!engine.calls.some((call) => call.includes('SIGKILL')));
    assert.deepEqual(engine.containerIds, []);
  });

  test('and does not mind TERM is killed after its grace', async () => {
    const engine = fakeEngine({ program: () => sleeper });
    await using world = new JobsWorld(engine, {}, fastClock(50));
    const job = new Reading(await world.start(), { ...RUN, stopGrace: seconds(1) });
    await job.step('started');
    job.cancel();
    const result = await job.result();
    assert.equal(result.outcome, 'cancelled');
    assert.deepEqual([result.exitCode, result.signal], [137, 'SIGKILL']);
    assert.deepEqual(engine.calls.filter((call) => call.startsWith('kill')).length, 2);
  });

  test('and can not be killed is told as INDETERMINATE and removed all the same', async () => {
    const engine = fakeEngine({ program: () => sleeper });
    await using world = new JobsWorld(engine, {}, fastClock(400));
    const job = new Reading(await world.start(), { ...RUN, stopGrace: seconds(1) });
    await job.step('started');
    engine.hang('kill');
    job.cancel();
    const result = await job.result();
    assert.deepEqual([result.state, result.reason], [JobState.INDETERMINATE, JobReason.CANCELLED]);
    assert.match(result.error!.message, /could not be ended/);
    assert.deepEqual(engine.containerIds, []);
  });

  test('after it ended keeps its own end', async () => {
    await using world = new JobsWorld(fakeEngine({ program: () => async () => 0 }));
    const job = new Reading(await world.start(), RUN);
    const result = await job.result();
    job.cancel();
    assert.equal(result.state, JobState.SUCCEEDED);
  });

  test('while it is queued never touches the engine', async () => {
    const engine = fakeEngine({ program: () => sleeper });
    await using world = new JobsWorld(engine, { maxConcurrent: 1 });
    const jobs = await world.start();
    const first = new Reading(jobs, { ...RUN, stopGrace: seconds(0) });
    await first.step('started');
    const second = new Reading(jobs, RUN);
    assert.deepEqual(await second.step('queued'), { $typeName: 'longline.v1.JobQueued', position: 1 });
    second.cancel();
    const result = await second.result();
    assert.deepEqual([result.state, result.reason], [JobState.CANCELLED, JobReason.CANCELLED]);
    assert.equal(result.startTime, undefined);
    first.cancel();
    await first.result();
    assert.equal(engine.calls.filter((call) => call.startsWith('createContainer')).length, 1);
  });

  test('while its image is pulled gives the pull up', async () => {
    const engine = fakeEngine({
      images: [],
      pulls: { 'alpine:latest': { sizeBytes: 100, layers: 2, beforeLayer: () => new Promise(() => undefined) } },
      program: () => sleeper,
    });
    await using world = new JobsWorld(engine);
    const job = new Reading(await world.start(), RUN);
    await job.step('pulling');
    job.cancel();
    assert.equal((await job.result()).state, JobState.CANCELLED);
    assert.deepEqual(engine.containerIds, []);
  });

  for (const method of ['createContainer', 'attach', 'armExit'] as const) {
    test(`while ${method} is under way leaves nothing behind`, async () => {
      const engine = fakeEngine({ program: () => sleeper });
      await using world = new JobsWorld(engine);
      const jobs = await world.start();
      engine.hang(method);
      const job = new Reading(jobs, RUN);
      await until(() => engine.calls.some((call) => call.startsWith(method)), method);
      job.cancel();
      engine.release(method);
      const result = await job.result();
      assert.equal(result.state, JobState.CANCELLED);
      assert.equal(result.startTime, undefined);
      assert.ok(!engine.calls.some((call) => call.startsWith('start ')));
      assert.deepEqual(engine.containerIds, []);
      assert.equal(world.state.values.size, 0);
    });
  }

  test('while start is under way is stopped as a running one', async () => {
    const engine = fakeEngine({ program: () => sleeper });
    await using world = new JobsWorld(engine, {}, fastClock(50));
    const jobs = await world.start();
    engine.hang('start');
    const job = new Reading(jobs, RUN);
    await until(() => engine.calls.some((call) => call.startsWith('start ')), 'start');
    job.cancel();
    engine.release('start');
    assert.equal((await job.result()).state, JobState.CANCELLED);
    assert.deepEqual(engine.containerIds, []);
  });
});

suite('a job that can not start', () => {
  test('because its program is not in the image says so', async () => {
    const engine = fakeEngine({ program: () => undefined });
    await using world = new JobsWorld(engine);
    const result = await new Reading(await world.start(), RUN).result();
    assert.deepEqual([result.state, result.reason], [JobState.FAILED, JobReason.START_FAILED]);
    assert.match(result.error!.message, /"work": executable file not found/);
    assert.equal(result.exitCode, undefined);
    assert.deepEqual(engine.containerIds, []);
    assert.equal(world.state.values.size, 0);
  });

  test('because its image is nowhere says so', async () => {
    await using world = new JobsWorld(fakeEngine({ images: [], program: () => sleeper }));
    const jobs = await world.start();
    const unknown = await new Reading(jobs, RUN).result();
    assert.deepEqual([unknown.state, unknown.reason], [JobState.FAILED, JobReason.IMAGE_UNAVAILABLE]);
    assert.match(unknown.error!.message, /manifest unknown/);
    const never = await new Reading(jobs, { ...RUN, pullPolicy: PullPolicy.NEVER }).result();
    assert.match(never.error!.message, /pull policy is never/);
  });

  test('because it expired in the line is told as late', async () => {
    const engine = fakeEngine({ program: () => sleeper });
    await using world = new JobsWorld(engine, { maxConcurrent: 1 });
    const jobs = await world.start();
    const first = new Reading(jobs, { ...RUN, stopGrace: seconds(0) });
    await first.step('started');
    const second = new Reading(jobs, RUN, { expiresAtMs: Date.now() + 30 });
    const result = await second.result();
    assert.deepEqual([result.state, result.reason], [JobState.REJECTED, JobReason.REJECTED]);
    assert.match(result.error!.message, /expired at/);
    first.cancel();
    await first.done;
  });

  test('because the line is full is told as a limit that may pass', async () => {
    const engine = fakeEngine({ program: () => sleeper });
    await using world = new JobsWorld(engine, { maxConcurrent: 1, maxQueued: 0 });
    const jobs = await world.start();
    const first = new Reading(jobs, { ...RUN, stopGrace: seconds(0) });
    await first.step('started');
    const result = await new Reading(jobs, RUN).result();
    assert.deepEqual([result.state, result.reason], [JobState.FAILED, JobReason.HOST_LIMIT]);
    assert.equal(result.error!.retryable, true);
    first.cancel();
    await first.done;
  });

  test('because its spec is wrong lists every field; bytes that are none are refused too', async () => {
    await using world = new JobsWorld(fakeEngine({ program: () => sleeper }));
    const jobs = await world.start();
    const result = await new Reading(jobs, { argv: [], image: 'UPPER', workingDir: 'relative' }).result();
    assert.equal(result.state, JobState.REJECTED);
    const fields = result.error!.violations.map((violation) => violation.field);
    assert.deepEqual(fields, ['spec.argv', 'spec.image', 'spec.working_dir']);
    const garbage = await new Reading(jobs, Uint8Array.of(0xff, 0xff, 0xff)).result();
    assert.equal(garbage.state, JobState.REJECTED);
    const empty = await new Reading(jobs, new Uint8Array()).result();
    assert.match(empty.error!.message, /it knows "run"/);
  });
});

suite('a reader', () => {
  test('finds the container still there while it makes the result durable', async () => {
    const engine = fakeEngine({ program: () => async () => 0 });
    await using world = new JobsWorld(engine);
    const jobs = await world.start();
    const { events } = eventsOf(jobs);
    for await (const event of events) if (event.kind === 'result') assert.equal(engine.containerIds.length, 1);
    assert.deepEqual(engine.containerIds, []);
  });

  test('that never takes the result leaves container and record for the next process', async () => {
    const engine = fakeEngine({ program: () => async () => 0 });
    await using world = new JobsWorld(engine);
    const jobs = await world.start();
    const reader = eventsOf(jobs).events[Symbol.asyncIterator]();
    await reader.next();
    await until(() => world.logs.get('one').closed === 1, 'the job to end');
    await world.letGo();
    assert.equal(engine.containerIds.length, 1);
    assert.equal(world.state.values.size, 1);
    const again = await world.start(['one']);
    const result = await new Reading(again, RUN, { id: 'one', resumed: true }).result();
    assert.equal(result.state, JobState.SUCCEEDED);
    assert.deepEqual(engine.containerIds, []);
  });

  test('that leaves early leaves the job running', async () => {
    const engine = fakeEngine({ program: () => sleeper });
    await using world = new JobsWorld(engine);
    const jobs = await world.start();
    for await (const event of eventsOf(jobs).events)
      if (event.kind === 'progress' && engine.calls.some((call) => call.startsWith('start '))) break;
    await until(() => jobs.counts().running === 0, 'the job to be let go');
    assert.equal(engine.containerIds.length, 1);
    assert.equal(world.state.values.size, 1);
  });
});

function eventsOf(jobs: Awaited<ReturnType<JobsWorld['start']>>) {
  const action = encodeRun();
  const command = { id: 'one', action, receivedAtMs: 0, expiresAtMs: Date.now() + 60_000, traceparent: '' };
  return { events: jobs.handle(command, { signal: new AbortController().signal, resumed: false }) };
}

function encodeRun(): Uint8Array {
  return encodeJobAction(RUN);
}

// Jobs on real engines: Docker and Podman, held to the same promises.
import assert from 'node:assert/strict';
import { after, afterEach, before, suite, test } from 'node:test';
import { JobReason, JobState, StdinMode } from '#gen/longline/v1/job_pb.js';
import type { JobsCapability } from '../../../src/capabilities/jobs/capability.ts';
import { DockerEngine } from '../../../src/platform/docker/docker-engine.ts';
import { removeLabelled, untilNoContainers } from '../../fixtures/engine-query.ts';
import { dockerMissing, podmanMissing, startDocker, startPodman, type TestEngine } from '../../fixtures/engines.ts';
import { BARE_IMAGE, loadTestImages, TEST_IMAGE, testImageMissing } from '../../fixtures/test-image.ts';
import { JobsWorld, Reading, type SpecInput, until } from './jobs-fixture.ts';

const ENGINES = [
  { kind: 'docker', missing: dockerMissing, start: () => startDocker({ liveRestore: true }) },
  { kind: 'podman', missing: podmanMissing, start: startPodman },
] as const;

for (const { kind, missing, start } of ENGINES) {
  suite(`jobs on ${kind}`, { skip: missing() ?? testImageMissing() ?? false }, () => {
    let engine: TestEngine;
    let world: JobsWorld;
    let jobs: JobsCapability;

    before(async () => {
      engine = await start();
      await loadTestImages(engine);
      world = newWorld(engine);
      jobs = await world.start();
    });

    after(async () => {
      await world?.[Symbol.asyncDispose]();
      await engine?.dispose();
    });

    // What a failed test leaves, also an engine that is down, must not fail those that follow.
    afterEach(async () => {
      await engine.restart();
      await removeLabelled(engine.socketPath, 'longline');
    });

    const shell = (line: string, more: SpecInput = {}) =>
      new Reading(jobs, { shell: line, image: TEST_IMAGE, ...more });
    const textOf = (job: Reading, stream: 'stdout' | 'stderr' = 'stdout') => world.logs.get(job.id).text(stream);
    const assertNothingLeft = () => untilNoContainers(engine.socketPath);

    test('a job is hardened', async () => {
      const job = shell(
        `id -u; id -g
         grep -E '^(CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t '
         touch /x 2>&1; ls /sys/class/net; cp /bin/true /tmp/t && /tmp/t 2>&1 || echo noexec
         i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i+1)); done 2>&1 | head -n 1`,
        { stopGrace: seconds(0) },
      );
      const result = await job.result();
      const lines = textOf(job);
      for (const expected of [
        /^65534\n65534\n/,
        /CapPrm:0000000000000000/,
        /CapEff:0000000000000000/,
        /CapBnd:0000000000000000/,
        /NoNewPrivs:1/,
        /Seccomp:2/,
        /touch: \/x: Read-only file system/,
        /\nlo\n/,
        /\nnoexec\n/,
        /can't fork/,
      ]) {
        assert.match(lines + textOf(job, 'stderr'), expected);
      }
      assert.doesNotMatch(lines, /eth0/);
      assert.notEqual(result.state, JobState.INDETERMINATE);
      await assertNothingLeft();
    });

    test('output, exit code, environment, folder and binary bytes pass unchanged', async () => {
      const job = shell('echo "$GREETING"; pwd; printf "\\000\\377\\n" >&2; exit 3', {
        env: { GREETING: 'hé\nllo' },
        workingDir: '/tmp',
      });
      const result = await job.result();
      assert.deepEqual([result.state, result.reason, result.exitCode], [JobState.FAILED, JobReason.EXITED, 3]);
      assert.equal(textOf(job), 'hé\nllo\n/tmp\n');
      assert.deepEqual(Buffer.concat(world.logs.get(job.id).kept.stderr), Buffer.from([0, 255, 10]));
      await assertNothingLeft();
    });

    test('output past the limit is declared', async () => {
      const job = new Reading(jobs, { argv: ['seq', '1', '200000'], image: BARE_IMAGE, maxOutputBytes: 10_000n });
      const result = await job.result();
      assert.equal(result.state, JobState.SUCCEEDED);
      assert.equal(textOf(job).length, 10_000);
      assert.equal(result.stdoutBytes, 1_288_895n);
      assert.equal(
        world.logs.get(job.id).gaps.reduce((sum, gap) => sum + gap.bytes, 0),
        1_288_895 - 10_000,
      );
    });

    test('running out of memory is told', async () => {
      const eat = 'dd if=/dev/zero of=/dev/null bs=200M count=1';
      // Docker hears of memory kills only from when it has answered the start, so the program waits for a line until then.
      const hungry = async (program: string) => {
        const spec = { resources: { memoryBytes: 16n * 1024n * 1024n }, stdinMode: StdinMode.STREAM };
        const job = new Reading(jobs, { shell: `read line; ${program}`, image: TEST_IMAGE, ...spec } as SpecInput);
        await job.step('started');
        await jobs.writeInput(job.id, 0, Buffer.from('go\n'), false);
        return job;
      };
      const main = await (await hungry(`exec ${eat}`)).result();
      assert.equal(main.state, JobState.FAILED);
      assert.equal(main.exitCode, 137);
      if (kind === 'podman') {
        // It never tells why; the result says what to think of.
        assert.match(main.error!.message, /most often that is the kernel, for memory/);
        return;
      }
      assert.deepEqual([main.reason, main.oomKilled], [JobReason.OUT_OF_MEMORY, true]);
      const job = await hungry(`${eat}; echo alive; read line; exit 0`);
      await job.step('outOfMemory');
      await jobs.writeInput(job.id, 3, new Uint8Array(), true);
      const ended = await job.result();
      assert.deepEqual([ended.state, ended.reason, ended.oomKilled], [JobState.SUCCEEDED, JobReason.EXITED, true]);
      assert.equal(textOf(job), 'alive\n');
    });

    test('streamed input arrives once and in order; inline input whole', async () => {
      const job = new Reading(jobs, { argv: ['cat'], image: BARE_IMAGE, stdinMode: StdinMode.STREAM });
      await job.step('started');
      const part = Buffer.from('0123456789');
      assert.deepEqual(await jobs.writeInput(job.id, 0, part, false), { taken: 10, closed: false });
      assert.deepEqual(await jobs.writeInput(job.id, 5, part, false), { taken: 15, closed: false });
      assert.deepEqual(await jobs.writeInput(job.id, 15, new Uint8Array(), true), { taken: 15, closed: true });
      assert.equal((await job.result()).state, JobState.SUCCEEDED);
      assert.equal(textOf(job), '012345678956789');
      assert.deepEqual(await jobs.writeInput(job.id, 15, part, false), { taken: 0, closed: true });
      const data = Buffer.alloc(300_000, 'abc');
      const inline = new Reading(jobs, {
        argv: ['cat'],
        image: BARE_IMAGE,
        stdinMode: StdinMode.INLINE,
        stdinData: data,
      });
      await inline.result();
      assert.equal(textOf(inline), data.toString());
      const none = new Reading(jobs, { argv: ['cat'], image: BARE_IMAGE });
      assert.equal((await none.result()).state, JobState.SUCCEEDED);
    });

    test('timeout and cancel end a job that minds TERM, and one that does not', async () => {
      const polite = shell("trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done", {
        timeout: seconds(3),
      });
      const timedOut = await polite.result();
      assert.deepEqual([timedOut.state, timedOut.exitCode], [JobState.TIMED_OUT, 4]);
      assert.equal(textOf(polite), 'up\nbye\n');
      const deaf = shell('trap "" TERM; echo up; while :; do sleep 1; done', { stopGrace: seconds(1) });
      await until(() => textOf(deaf) === 'up\n', 'it to run');
      deaf.cancel();
      const cancelled = await deaf.result();
      assert.deepEqual([cancelled.state, cancelled.signal], [JobState.CANCELLED, 'SIGKILL']);
      await assertNothingLeft();
    });

    test('a program that is not there is told by the engine', async () => {
      const job = new Reading(jobs, { argv: ['no-such-program'], image: BARE_IMAGE });
      const result = await job.result();
      assert.deepEqual([result.state, result.reason], [JobState.FAILED, JobReason.START_FAILED]);
      assert.match(result.error!.message, /no-such-program/);
      await assertNothingLeft();
    });

    test('a restarted agent goes on with a job, every line once', async () => {
      const line =
        'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo "line $i"; [ $((i % 100)) -gt 0 ] || sleep 0.05; done; exit 5';
      const first = newWorld(engine);
      await using _ = first;
      const begun = await first.start();
      const spec: SpecInput = { shell: line, image: TEST_IMAGE };
      const job = new Reading(begun, spec);
      await job.step('started');
      for (let round = 0; round < 3; round++) {
        const again = await restart(first, job.id);
        const reading = new Reading(again, spec, { id: job.id, resumed: true });
        await reading.step('adopted');
        if (round < 2) continue;
        const result = await reading.result();
        assert.equal(result.exitCode, 5);
      }
      let whole = '';
      for (let number = 1; number <= 3000; number++) whole += `line ${number}\n`;
      assert.equal(first.logs.get(job.id).text(), whole);
      await assertNothingLeft();
    });

    test('a killed engine is waited for', async () => {
      const job = shell('i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo "line $i"; sleep 0.1; done; exit 6');
      await job.step('started');
      await engine.kill9();
      await engine.restart();
      await job.step('adopted');
      const result = await job.result();
      assert.equal(result.exitCode, 6);
      assert.equal(textOf(job).split('\n').length, 61);
      await assertNothingLeft();
    });
  });
}

suite('jobs on a docker without live restore', { skip: dockerMissing() ?? testImageMissing() ?? false }, () => {
  test('whose end takes the job with it fail with the engine as the reason', async () => {
    await using engine = await startDocker();
    await loadTestImages(engine);
    await using world = newWorld(engine);
    const jobs = await world.start();
    // Ends at TERM as if it were killed: one that ignores it dockerd kills, ten seconds later.
    const job = new Reading(jobs, { argv: ['sh', '-c', 'trap "exit 137" TERM; sleep 100 & wait'] });
    await job.step('started');
    await engine.stop();
    await engine.restart();
    const result = await job.result();
    assert.deepEqual([result.state, result.reason], [JobState.FAILED, JobReason.ENGINE_LOST]);
    await untilNoContainers(engine.socketPath);
  });
});

function newWorld(engine: TestEngine): JobsWorld {
  return new JobsWorld(new DockerEngine({ kind: 'unix', socketPath: engine.socketPath }), {
    allowedImages: ['longline-test/*'],
    defaults: { image: TEST_IMAGE },
  });
}

/** Drops what runs without a word, as a crash does, and starts over. */
async function restart(world: JobsWorld, unfinished: string): Promise<JobsCapability> {
  await world.letGo();
  return await world.start([unfinished]);
}

function seconds(count: number) {
  return { $typeName: 'google.protobuf.Duration' as const, seconds: BigInt(count), nanos: 0 };
}

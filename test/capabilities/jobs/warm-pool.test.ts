// The warm pool: what is handed out, kept and removed, on a fake engine; and that a job can't tell, on real ones.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { JobReason, JobState, StdinMode } from '#gen/longline/v1/job_pb.js';
import type { JobsCapability } from '../../../src/capabilities/jobs/capability.ts';
import type { PartialJobsSettings } from '../../../src/capabilities/jobs/config.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { DockerEngine } from '../../../src/platform/docker/docker-engine.ts';
import { listContainers } from '../../fixtures/engine-query.ts';
import { dockerMissing, podmanMissing, startDocker, startPodman, type TestEngine } from '../../fixtures/engines.ts';
import type { FakeProcess } from '../../fixtures/fake-container.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';
import { BARE_IMAGE, loadTestImages, TEST_IMAGE, testImageMissing } from '../../fixtures/test-image.ts';
import { fakeEngine, JobsWorld, Reading, type SpecInput, until } from './jobs-fixture.ts';

const RUN: SpecInput = { argv: ['work', 'hard'] };
const SETTINGS: PartialJobsSettings = {
  warm: { images: [{ reference: 'alpine', size: 2 }], initPath: process.execPath },
};

/** Plays the init: reads a command, then "becomes" it by telling its program. */
async function fakeInit(process: FakeProcess): Promise<number> {
  const token = process.spec.argv.at(-1)!;
  let text = '';
  for await (const data of process.stdin) {
    text += Buffer.from(data).toString();
    if (text.includes('refuse\n')) {
      await process.write('stderr', `${token}: no such program\n`);
      return 125;
    }
    if (text.includes('hard\n')) {
      await process.write('stdout', 'warm\n');
      return 0;
    }
    if (text.includes('forever\n')) await process.forever();
  }
  await process.write('stderr', `${token}: no command came\n`);
  return 125;
}

const program = (spec: { readonly argv: readonly string[] }) =>
  spec.argv[0] === '/.longline/busybox'
    ? fakeInit
    : async (process: FakeProcess) => {
        await process.write('stdout', 'cold\n');
        return 0;
      };

suite('the warm pool', () => {
  const filled = (jobs: JobsCapability, count = 2) =>
    until(() => jobs.counts().warm === count, 'the pool to be filled');

  test('runs a job in a waiting container, used once, and fills up again', async () => {
    const engine = fakeEngine({ program });
    await using world = new JobsWorld(engine, SETTINGS, fastClock(10));
    const jobs = await world.start();
    await filled(jobs);
    const seen = new Set<string>();
    for (let round = 0; round < 3; round++) {
      await filled(jobs);
      const job = new Reading(jobs, RUN);
      const result = await job.result();
      assert.deepEqual([result.state, result.warm], [JobState.SUCCEEDED, true]);
      assert.equal(world.logs.get(job.id).text(), 'warm\n');
      assert.deepEqual(job.names, ['started']);
      assert.ok(!seen.has(result.containerId));
      seen.add(result.containerId);
      assert.ok(!engine.containerIds.includes(result.containerId));
    }
    assert.equal(world.state.values.size, 0);
    await world.letGo();
    assert.deepEqual(engine.containerIds, []);
  });

  test('leaves a job of another shape, and one with variables of the shell, to run cold', async () => {
    const engine = fakeEngine({ program });
    await using world = new JobsWorld(engine, SETTINGS, fastClock(10));
    const jobs = await world.start();
    await filled(jobs);
    for (const spec of [
      { ...RUN, maxOutputBytes: 5n },
      { ...RUN, env: { IFS: 'x' } },
      { ...RUN, sandbox: { user: '1:1' } as never },
    ]) {
      const job = new Reading(jobs, spec);
      assert.equal((await job.result()).warm, false);
      assert.equal(world.logs.get(job.id).text().slice(0, 5), 'cold\n');
    }
  });

  test('warms the shape that was used last and lets the oldest go', async () => {
    const engine = fakeEngine({ program });
    await using world = new JobsWorld(engine, { warm: { ...SETTINGS.warm, maxContainers: 2 } }, fastClock(10));
    const jobs = await world.start();
    await filled(jobs);
    const other = { ...RUN, maxOutputBytes: 5n };
    assert.equal((await new Reading(jobs, other).result()).warm, false);
    const waiting = () => engine.containerIds.filter((id) => engine.specOf(id)!.keepLogBytes < 2_000_000).length;
    await until(() => waiting() === 2 && engine.containerIds.length === 2, 'the pool to change over');
    assert.equal((await new Reading(jobs, other).result()).warm, true);
  });

  test('never hands out a container that died', async () => {
    const engine = fakeEngine({ program });
    await using world = new JobsWorld(engine, SETTINGS);
    const jobs = await world.start();
    await filled(jobs);
    const dead = [...engine.containerIds];
    for (const id of dead) await engine.kill(id, 'SIGKILL');
    await filled(jobs, 0);
    const job = new Reading(jobs, RUN);
    assert.equal((await job.result()).warm, false);
    await until(() => engine.containerIds.length === 0, 'the dead ones to be removed');
  });

  test('runs a job cold whose program the init can not become', async () => {
    const engine = fakeEngine({ program });
    await using world = new JobsWorld(engine, SETTINGS, fastClock(10));
    const jobs = await world.start();
    await filled(jobs);
    const job = new Reading(jobs, { argv: ['refuse'] });
    const result = await job.result();
    assert.deepEqual([result.state, result.warm], [JobState.SUCCEEDED, false]);
    assert.equal(world.logs.get(job.id).text(), 'cold\n');
    assert.equal(world.logs.get(job.id).text('stderr'), '');
    assert.equal(world.state.values.size, 0);
  });

  test('prepares a job before its command is durable, and starts it only then', async () => {
    const engine = fakeEngine({ program });
    await using world = new JobsWorld(engine, SETTINGS);
    const jobs = await world.start();
    await filled(jobs);
    const { promise: durable, resolve } = Promise.withResolvers<void>();
    const job = new Reading(jobs, RUN, { durable });
    await until(() => world.state.values.size === 1, 'the record of the job');
    assert.deepEqual([world.logs.get(job.id).text(), job.names], ['', []]);
    resolve();
    assert.equal((await job.result()).warm, true);
    assert.equal(world.logs.get(job.id).text(), 'warm\n');
  });

  test('runs nothing, warm or cold, of a command that can not be kept, and leaves nothing of it', async () => {
    const engine = fakeEngine({ program });
    await using world = new JobsWorld(engine, SETTINGS, fastClock(10));
    const jobs = await world.start();
    await filled(jobs);
    for (const spec of [RUN, { ...RUN, env: { IFS: 'x' } }]) {
      const durable = Promise.reject(new LonglineError('unavailable', 'the disk is gone'));
      const job = new Reading(jobs, spec, { durable });
      assert.equal((await job.result()).state, JobState.REJECTED);
      assert.equal(world.logs.get(job.id).text(), '');
    }
    assert.equal(world.state.values.size, 0);
    await filled(jobs);
    assert.ok(!engine.calls.some((call) => call.startsWith('createContainer longline-job-')), engine.calls.join('\n'));
  });

  test('removes what idled, and what is left when a process died', async () => {
    const engine = fakeEngine({ program });
    await using world = new JobsWorld(engine, { warm: { ...SETTINGS.warm, idleTtlMs: 20_000 } }, fastClock(500));
    const jobs = await world.start();
    await until(() => engine.calls.some((call) => call.startsWith('remove')), 'the idle ones to be removed');
    await until(() => engine.containerIds.length === 0 && jobs.counts().warm === 0, 'the pool to be empty');
  });

  test('finds a job again that ran warm when the agent died, and never runs it twice', async () => {
    const engine = fakeEngine({ program });
    await using world = new JobsWorld(engine, SETTINGS, fastClock(10));
    const first = await world.start();
    await filled(first);
    const spec = {
      argv: ['forever'],
      stopGrace: { $typeName: 'google.protobuf.Duration' as const, seconds: 0n, nanos: 0 },
    };
    const job = new Reading(first, spec);
    await job.step('started');
    const [record] = world.state.values.values();
    assert.equal(JSON.parse(Buffer.from(record!).toString()).warm, true);
    await world.letGo();
    const again = await world.start([job.id]);
    const resumed = new Reading(again, spec, { id: job.id, resumed: true });
    await resumed.step('adopted');
    resumed.cancel();
    const result = await resumed.result();
    assert.deepEqual([result.state, result.reason, result.warm], [JobState.CANCELLED, JobReason.CANCELLED, true]);
  });

  test('is off with a reason where its init is missing', async () => {
    const engine = fakeEngine({ program });
    await using world = new JobsWorld(engine, { warm: { ...SETTINGS.warm, initPath: '/no/such/busybox' } });
    const jobs = await world.start();
    assert.match((await jobs.health()).detail, /no warm pool: \/no\/such\/busybox is not an executable/);
    assert.equal((await new Reading(jobs, RUN).result()).warm, false);
  });
});

for (const { kind, missing, start } of [
  { kind: 'docker', missing: dockerMissing, start: startDocker },
  { kind: 'podman', missing: podmanMissing, start: startPodman },
]) {
  suite(`warm jobs on ${kind}`, { skip: missing() ?? testImageMissing() ?? false }, () => {
    let engine: TestEngine;
    let world: JobsWorld;
    let jobs: JobsCapability;

    before(async () => {
      engine = await start();
      await loadTestImages(engine);
      world = new JobsWorld(new DockerEngine({ kind: 'unix', socketPath: engine.socketPath }), {
        allowedImages: ['longline-test/*'],
        defaults: { image: TEST_IMAGE },
        warm: { images: [TEST_IMAGE, BARE_IMAGE].map((reference) => ({ reference, size: 1 })) },
      });
      jobs = await world.start();
    });

    after(async () => {
      await world?.[Symbol.asyncDispose]();
      if (engine !== undefined) assert.deepEqual(await listContainers(engine.socketPath), []);
      await engine?.dispose();
    });

    /** The same job warm and cold; what it said in both. */
    async function both(spec: SpecInput): Promise<{ exitCode: number | undefined; out: string; err: string }> {
      await until(() => jobs.counts().warm >= 2, 'the pool to be filled');
      const seen = [];
      for (const env of [{}, { LC_ALL: 'C' }]) {
        const job = new Reading(jobs, { ...spec, env: { ...spec.env, ...env } });
        const result = await job.result();
        assert.equal(result.warm, !('LC_ALL' in env), `${result.reason}`);
        const log = world.logs.get(job.id);
        seen.push({ exitCode: result.exitCode, out: log.text(), err: log.text('stderr') });
      }
      assert.deepEqual(seen[0], seen[1]);
      return seen[0]!;
    }

    test('see the same sandbox, environment and process as cold ones', async () => {
      const status =
        "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Sig(Blk|Ign|Cgt)):' /proc/self/status; ulimit -a; umask; pwd";
      const whole =
        'echo $$ $0; env | grep -vE "^(HOSTNAME|LC_ALL)=" | sort; ls /sys/class/net; touch /x; ls /proc/1/fd; readlink /proc/1/fd/0';
      const { out, err, exitCode } = await both({
        shell: `${status}; ${whole}; cat /sys/fs/cgroup/*/memory.limit_in_bytes; exit 9`,
        env: { A: 'b\nc' },
      });
      assert.equal(exitCode, 9);
      assert.match(out, /Uid:\t65534\t/);
      assert.match(out, /\n1 \/bin\/sh\n/);
      assert.match(err, /Read-only file system/);
    });

    test('run in an image without a shell, with input, and end when they are told to', async () => {
      const data = Buffer.from('to the cat\n');
      const fed = await both({ argv: ['cat'], image: BARE_IMAGE, stdinMode: StdinMode.INLINE, stdinData: data });
      assert.equal(fed.out, data.toString());
      assert.equal((await both({ argv: ['cat'], image: BARE_IMAGE })).out, '');
      await until(() => jobs.counts().warm >= 2, 'the pool to be filled');
      const job = new Reading(jobs, { argv: ['cat'], image: BARE_IMAGE, stdinMode: StdinMode.STREAM });
      await job.step('started');
      await jobs.writeInput(job.id, 0, Buffer.from('piece '), false);
      await jobs.writeInput(job.id, 6, Buffer.from('by piece'), true);
      const result = await job.result();
      assert.deepEqual([result.state, result.warm], [JobState.SUCCEEDED, true]);
      assert.equal(world.logs.get(job.id).text(), 'piece by piece');
    });

    test('are told as cold ones when their program is missing', async () => {
      await until(() => jobs.counts().warm >= 2, 'the pool to be filled');
      const job = new Reading(jobs, { argv: ['no-such-program'], image: BARE_IMAGE });
      const result = await job.result();
      assert.deepEqual([result.state, result.reason, result.warm], [JobState.FAILED, JobReason.START_FAILED, false]);
      assert.match(result.error!.message, /no-such-program/);
      assert.equal(result.stderrBytes, 0n);
    });

    test('are adopted by a restarted agent, and the pool starts anew', async () => {
      await until(() => jobs.counts().warm >= 2, 'the pool to be filled');
      const spec: SpecInput = {
        shell: 'i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo "line $i"; sleep 0.05; done; exit 5',
        image: TEST_IMAGE,
      };
      const job = new Reading(jobs, spec);
      await job.step('started');
      await world.letGo();
      jobs = await world.start([job.id]);
      const result = await new Reading(jobs, spec, { id: job.id, resumed: true }).result();
      assert.deepEqual([result.exitCode, result.warm], [5, true]);
      let whole = '';
      for (let line = 1; line <= 40; line++) whole += `line ${line}\n`;
      assert.equal(world.logs.get(job.id).text(), whole);
    });
  });
}

import assert from 'node:assert/strict';
import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Code, ConnectError } from '@connectrpc/connect';
import { JobReason, JobState } from '#gen/longline/v1/job_pb.js';
import { type Script, startFleet } from './fixtures.ts';
import { chunk, ended, event, jobOf, running } from './job-messages.ts';

const LAUNCHER = fileURLToPath(new URL('../../deploy/bin/longline', import.meta.url));

interface Started {
  readonly child: ChildProcessWithoutNullStreams;
  /** Resolves when standard output has had this text. */
  shown(text: string): Promise<void>;
  ended(): Promise<{ readonly code: number | null; readonly out: string; readonly err: string }>;
}

const children = new Set<ChildProcess>();
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
});

function start(argv: readonly string[], launcher = LAUNCHER): Started {
  const child = spawn(launcher, argv, { stdio: 'pipe', env: { ...process.env, NO_COLOR: '', HOME: '/nonexistent' } });
  children.add(child);
  let out = '';
  let err = '';
  child.stdout.on('data', (data: Buffer) => {
    out += data.toString();
    child.emit('shown');
  });
  child.stderr.on('data', (data: Buffer) => {
    err += data.toString();
  });
  const exit = once(child, 'close');
  return {
    child,
    shown: async (text) => {
      while (!out.includes(text)) {
        if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode} before it showed ${text}: ${err}`);
        await Promise.race([once(child, 'shown'), exit]);
      }
    },
    ended: async () => {
      const [code] = (await exit) as [number | null];
      return { code, out, err };
    },
  };
}

/** A job that runs until it is cancelled. */
function untilCancelled(): { readonly script: Script; readonly reasons: string[] } {
  const reasons: string[] = [];
  const cancelled = Promise.withResolvers<void>();
  const script: Script = {
    jobs: {
      async *runJob() {
        yield event({ case: 'submitted', value: jobOf(running()) });
        yield event({ case: 'output', value: chunk('started\n') });
        await cancelled.promise;
        yield event({ case: 'output', value: chunk('last words\n', 8n) });
        yield event({ case: 'finished', value: jobOf(ended({ reason: JobReason.CANCELLED }, JobState.CANCELLED)) });
      },
      cancelJob: ({ reason }) => {
        reasons.push(reason);
        cancelled.resolve();
        return { job: jobOf(running()) };
      },
    },
  };
  return { script, reasons };
}

test('Ctrl-C cancels the job, its last output is shown, the code is 130', async () => {
  const { script, reasons } = untilCancelled();
  await using fleet = await startFleet(script);
  const run = start(['--context', fleet.contextPath, 'job', 'run', '--agent', 'web-1', '--', 'sleep']);
  await run.shown('started\n');
  run.child.kill('SIGINT');
  const { code, out } = await run.ended();
  assert.equal(code, 130);
  assert.equal(out, 'started\nlast words\n');
  assert.deepEqual(reasons, ['interrupted by Ctrl-C']);
});

test('a second Ctrl-C leaves at once', async () => {
  const asked = Promise.withResolvers<void>();
  const never = Promise.withResolvers<never>();
  await using fleet = await startFleet({
    jobs: {
      async *runJob() {
        yield event({ case: 'submitted', value: jobOf(running()) });
        yield event({ case: 'output', value: chunk('started\n') });
        await never.promise;
      },
      cancelJob: () => {
        asked.resolve();
        return never.promise;
      },
    },
  });
  const run = start(['--context', fleet.contextPath, 'job', 'run', '--agent', 'web-1', '--', 'sleep']);
  await run.shown('started\n');
  run.child.kill('SIGINT');
  await asked.promise;
  run.child.kill('SIGINT');
  assert.equal((await run.ended()).code, 130);
  never.reject(new ConnectError('the test is over', Code.Aborted));
});

test('a reader that leaves cancels the job; the code is 141', async () => {
  const reasons: string[] = [];
  const cancelled = Promise.withResolvers<void>();
  const shown = Promise.withResolvers<void>();
  await using fleet = await startFleet({
    jobs: {
      async *runJob() {
        yield event({ case: 'submitted', value: jobOf(running()) });
        yield event({ case: 'output', value: chunk('started\n') });
        await shown.promise;
        yield event({ case: 'output', value: chunk('into the void\n', 8n) });
        await cancelled.promise;
        yield event({ case: 'finished', value: jobOf(ended({ reason: JobReason.CANCELLED }, JobState.CANCELLED)) });
      },
      cancelJob: ({ reason }) => {
        reasons.push(reason);
        cancelled.resolve();
        return { job: jobOf(running()) };
      },
    },
  });
  const run = start(['--context', fleet.contextPath, 'job', 'run', '--agent', 'web-1', '--', 'yes']);
  await run.shown('started\n');
  run.child.stdout.destroy();
  await once(run.child.stdout, 'close');
  shown.resolve();
  assert.equal((await run.ended()).code, 141);
  assert.deepEqual(reasons, ['the reader of the output has left']);
});

test('a slow reader gets all of a large output', async () => {
  const block = Buffer.alloc(60_000, 'x');
  const blocks = 200;
  await using fleet = await startFleet({
    jobs: {
      async *runJob() {
        yield event({ case: 'submitted', value: jobOf(running()) });
        for (let index = 0; index < blocks; index++) {
          yield event({ case: 'output', value: chunk(block, BigInt(index * block.length)) });
        }
        yield event({ case: 'finished', value: jobOf(ended()) });
      },
    },
  });
  const argv = ['--context', fleet.contextPath, 'job', 'run', '--agent', 'web-1', '--', 'x'];
  const child = spawn(LAUNCHER, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.add(child);
  let bytes = 0;
  for await (const data of child.stdout) {
    bytes += (data as Buffer).length;
    await new Promise(setImmediate);
  }
  assert.equal(bytes, block.length * blocks);
  if (child.exitCode === null) await once(child, 'close');
  assert.equal(child.exitCode, 0);
});

test('the launcher works through links from anywhere, and help costs no libraries', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-link-'));
  try {
    await symlink(LAUNCHER, join(folder, 'one'));
    await symlink('one', join(folder, 'two'));
    const { code, out } = await start(['--help'], join(folder, 'two')).ended();
    assert.equal(code, 0);
    assert.match(out, /Usage: longline/);
    const version = await start(['version', '--json'], join(folder, 'two')).ended();
    assert.equal((JSON.parse(version.out) as { version: string }).version, '0.1.0');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('a full disk behind standard output is a failure that says so', async () => {
  const { code, err } = await start(['-c', `'${LAUNCHER}' config reference agent > /dev/full`], '/bin/sh').ended();
  assert.equal(code, 1);
  assert.match(err, /^error: output can't be written: .*no space/i);
});

test('input that stays open does not keep the command alive once the job has ended', async () => {
  const sent: string[] = [];
  const received = Promise.withResolvers<void>();
  await using fleet = await startFleet({
    jobs: {
      async *runJob() {
        yield event({ case: 'submitted', value: jobOf(running()) });
        yield event({ case: 'output', value: chunk('started\n') });
        await received.promise;
        yield event({ case: 'finished', value: jobOf(ended()) });
      },
      writeInput: ({ offset, data }) => {
        sent.push(Buffer.from(data).toString());
        received.resolve();
        return { acceptedOffset: offset + BigInt(data.length), closed: false };
      },
    },
  });
  const run = start(['--context', fleet.contextPath, 'job', 'run', '-i', '--agent', 'web-1', '--', 'head', '-1']);
  await run.shown('started\n');
  run.child.stdin.write('one line\n');
  assert.equal((await run.ended()).code, 0);
  assert.deepEqual(sent, ['one line\n']);
});

import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Code, ConnectError } from '@connectrpc/connect';
import type { RunJobRequest, TailLogsRequest } from '#gen/longline/fleet/v1/job_service_pb.js';
import { AgentState } from '#gen/longline/v1/agent_pb.js';
import { JobReason, JobState, NetworkMode, StdinMode } from '#gen/longline/v1/job_pb.js';
import { CliIo } from '../../src/cli/io.ts';
import { run } from '../../src/cli/run.ts';
import { until } from '../link/scratch.ts';
import { MemoryOutput, runCli, startFleet } from './fixtures.ts';
import { chunk, close, ended, event, jobOf, pending, running } from './job-messages.ts';

const RUN = ['job', 'run', '--agent', 'web-1', '--image', 'alpine'];

test('output passes unchanged to the right stream, and the exit code is the job’s', async () => {
  const binary = Buffer.from([0, 255, 10, 13, 128, 0]);
  await using fleet = await startFleet({
    jobs: {
      async *runJob() {
        yield event({ case: 'submitted', value: jobOf(running()) });
        yield event({ case: 'output', value: chunk(binary) });
        yield event({ case: 'output', value: chunk('oops\n', 0n, 'stderr') });
        yield event({ case: 'output', value: close() });
        yield event({ case: 'finished', value: jobOf(ended({ exitCode: 7 }, JobState.FAILED)) });
      },
    },
  });
  const result = await runCli(['--context', fleet.contextPath, ...RUN, '--', 'sh']);
  assert.deepEqual(result.stdout, binary);
  assert.equal(result.err, 'oops\n');
  assert.equal(result.code, 7);
  assert.equal(fleet.authorization, 'Bearer lla1.test');
});

test('--json: the last line is one object, output is not shown; with --output it comes before', async () => {
  const script = {
    jobs: {
      async *runJob() {
        yield event({ case: 'submitted', value: jobOf(running()) });
        yield event({ case: 'output', value: chunk('hi\n') });
        yield event({ case: 'finished', value: jobOf(ended()) });
      },
    },
  };
  await using fleet = await startFleet(script);
  const silent = await runCli([...RUN, '--json', '--', 'true'], { env: { LONGLINE_CONTEXT: fleet.contextPath } });
  const { id, agent, state, exit_code, reason, started_at, ended_at, stdout_bytes, stderr_bytes, execution_id } =
    silent.json() as Record<string, unknown>;
  assert.deepEqual(
    [id, execution_id, agent, state, exit_code, reason],
    ['j1', 'e1', 'web-1', 'succeeded', 0, 'exited'],
  );
  assert.deepEqual([started_at, ended_at], ['2030-01-31T12:00:00.000Z', '2030-01-31T12:00:01.500Z']);
  assert.deepEqual([stdout_bytes, stderr_bytes], [3, 1]);
  const shown = await runCli(['--context', fleet.contextPath, ...RUN, '--json', '--output', '--', 'true']);
  assert.equal(shown.out.split('\n')[0], 'hi');
  assert.equal((JSON.parse(shown.out.split('\n')[1]!) as { id: string }).id, 'j1');
});

test('a job for an agent that is away says what it waits for', async () => {
  const stderr = new MemoryOutput();
  await using fleet = await startFleet({
    agents: { getAgent: () => ({ agent: { id: 'web-1', state: AgentState.OFFLINE } }) },
    jobs: {
      async *runJob() {
        yield event({ case: 'submitted', value: jobOf(pending()) });
        while (stderr.text === '') await delay(10);
        yield event({ case: 'finished', value: jobOf(ended()) });
      },
    },
  });
  const env = { HOME: '/nonexistent', LONGLINE_CONTEXT: fleet.contextPath };
  const io = new CliIo({ stdin: new PassThrough().end(), stdout: new MemoryOutput(), stderr, env });
  await run([...RUN, '--', 'x'], io);
  assert.equal(stderr.text, '[longline: waiting for web-1, which is offline; Ctrl-C cancels the job]\n');
  assert.equal(io.exitCode, 0);
});

test('ends that are no exit have codes of their own', async () => {
  const cases: [JobState, JobReason, object, number][] = [
    [JobState.TIMED_OUT, JobReason.TIMEOUT, { exitCode: 143 }, 124],
    [JobState.CANCELLED, JobReason.CANCELLED, {}, 130],
    [JobState.REJECTED, JobReason.REJECTED, { error: { reason: 10, message: 'no', rule: 'r' } }, 4],
    [JobState.REJECTED, JobReason.REJECTED, { error: { reason: 1, message: 'bad' } }, 2],
    [JobState.FAILED, JobReason.IMAGE_UNAVAILABLE, {}, 125],
    [JobState.FAILED, JobReason.OUT_OF_MEMORY, { exitCode: 137 }, 137],
    [JobState.FAILED, JobReason.SIGNALED, { exitCode: 139, signal: 'SIGSEGV' }, 139],
    [JobState.INDETERMINATE, JobReason.INTERRUPTED, {}, 125],
  ];
  let next = 0;
  await using fleet = await startFleet({
    jobs: {
      async *runJob() {
        const [state, reason, more] = cases[next]!;
        yield event({ case: 'submitted', value: jobOf(running()) });
        yield event({ case: 'finished', value: jobOf(ended({ reason, ...more }, state)) });
      },
    },
  });
  for (; next < cases.length; next++) {
    const result = await runCli(['--context', fleet.contextPath, ...RUN, '--', 'x']);
    assert.equal(result.code, cases[next]![3], JobState[cases[next]![0]]);
    assert.match(result.err, /\[longline: job j1 on web-1/);
  }
});

test('every option reaches the spec', async () => {
  let request: RunJobRequest | undefined;
  await using fleet = await startFleet({
    jobs: {
      async *runJob(received) {
        request = received;
        yield event({ case: 'submitted', value: jobOf(running()) });
        yield event({ case: 'finished', value: jobOf(ended()) });
      },
    },
  });
  const options = [
    ...['--env', 'A=1', '-e', 'B=x=y', '--workdir', '/w', '--user', '1:2', '--cpus', '0.5', '--memory', '64MiB'],
    ...['--pids', '9', '--timeout', '90s', '--network', 'lab', '--mount', '/a:/b:rw', '--cap-add', 'cap_net_raw'],
    ...['--runtime', 'runsc', '--writable-root', '--max-output', '1KiB', '--scope', 's', '--meta', 'k=v'],
    ...['--prompt', 'why', '--request-id', 'r1', '--ttl', '5m', '--label', 'l=1'],
  ];
  const result = await runCli(['--context', fleet.contextPath, ...RUN, ...options, 'echo', '--json', '-n']);
  assert.equal(result.code, 0, result.err);
  const spec = request!.job!.spec!;
  assert.deepEqual(spec.argv, ['echo', '--json', '-n']);
  assert.deepEqual({ ...spec.env }, { A: '1', B: 'x=y' });
  assert.deepEqual([spec.workingDir, spec.sandbox?.user, spec.resources?.cpus], ['/w', '1:2', 0.5]);
  assert.deepEqual([spec.resources?.memoryBytes, spec.resources?.pids, spec.timeout?.seconds], [67108864n, 9, 90n]);
  assert.deepEqual([spec.networkMode, spec.networkName], [NetworkMode.NAMED, 'lab']);
  assert.deepEqual([spec.mounts[0]?.source, spec.mounts[0]?.target, spec.mounts[0]?.writable], ['/a', '/b', true]);
  assert.deepEqual(spec.sandbox?.addCapabilities, ['NET_RAW']);
  assert.deepEqual([spec.sandbox?.runtime, spec.sandbox?.writableRoot, spec.maxOutputBytes], ['runsc', true, 1024n]);
  assert.deepEqual([spec.requiredScopes, spec.metadata?.extra['k'], spec.metadata?.prompt], [['s'], 'v', 'why']);
  assert.deepEqual([request!.job!.requestId, request!.job!.ttl?.seconds, request!.job!.labels['l']], ['r1', 300n, '1']);
  assert.equal(spec.stdinMode, StdinMode.NONE);
});

test('a broken connection loses and doubles nothing', async () => {
  const tails: TailLogsRequest[] = [];
  const runs: string[] = [];
  const fleet = await startFleet({
    jobs: {
      async *runJob({ job }) {
        runs.push(job!.requestId);
        yield event({ case: 'submitted', value: jobOf(running()) });
        yield event({ case: 'output', value: chunk('one\ntwo\n') });
        yield event({ case: 'output', value: chunk('E', 0n, 'stderr') });
        await until('both streams are shown', () => stdout.text.includes('two\n') && stderr.text === 'E');
        fleet.cut();
      },
      getJob: () => ({ job: jobOf(running()) }),
      async *tailLogs(request) {
        tails.push(request);
        if (tails.length === 1) {
          // More than was asked for: what was seen must not be shown again.
          yield { output: chunk('two\nthree\n', 4n) };
          await until('more is shown', () => stdout.text.includes('three\n'));
          fleet.cut();
        } else {
          yield { output: chunk('four\n', 14n) };
          yield { output: chunk('F', 1n, 'stderr') };
          yield { output: close() };
          finished = true;
        }
      },
      waitResult: () => ({
        job: jobOf(finished ? ended({ exitCode: 3 }, JobState.FAILED) : running()),
        done: finished,
      }),
    },
  });
  await using _closed = fleet;
  let finished = false;
  const [stdout, stderr] = [new MemoryOutput(), new MemoryOutput()];
  const result = await runCli(['--context', fleet.contextPath, ...RUN, '--', 'x'], { stdout, stderr });
  assert.equal(result.out, 'one\ntwo\nthree\nfour\n');
  assert.equal(result.err, 'EF');
  assert.equal(result.code, 3);
  assert.equal(runs.length, 1);
  assert.deepEqual({ ...tails[0]!.from }, { stdout: 8n, stderr: 1n });
  assert.deepEqual({ ...tails[1]!.from }, { stdout: 14n, stderr: 1n });
});

test('standard input is streamed in order, only what was accepted counts, and it ends', async () => {
  let input = Buffer.alloc(0);
  let finished = false;
  const done = Promise.withResolvers<void>();
  let calls = 0;
  await using fleet = await startFleet({
    jobs: {
      async *runJob({ job }) {
        assert.equal(job?.spec?.stdinMode, StdinMode.STREAM);
        yield event({ case: 'submitted', value: jobOf(running()) });
        await done.promise;
        yield event({ case: 'finished', value: jobOf(ended()) });
      },
      writeInput: ({ offset, data, end }) => {
        calls += 1;
        if (calls === 2) throw new ConnectError('try again', Code.Unavailable);
        assert.equal(Number(offset), input.length);
        // Takes half of every larger piece.
        const taken = data.length > 1000 ? data.subarray(0, data.length / 2) : data;
        input = Buffer.concat([input, taken]);
        finished = end;
        if (end) done.resolve();
        return { acceptedOffset: BigInt(input.length), closed: end };
      },
    },
  });
  const sent = Buffer.alloc(200_000, 'abcdefg');
  const stdin = new PassThrough();
  stdin.end(sent);
  const result = await runCli(['--context', fleet.contextPath, ...RUN, '-i', '--', 'cat'], { stdin });
  assert.equal(result.code, 0, result.err);
  assert.ok(input.equals(sent));
  assert.ok(finished);
});

test('several agents: lines with the name before them, a table, the highest code', async () => {
  const executions = [running('e1', 'a'), running('e2', 'longer')];
  await using fleet = await startFleet({
    jobs: {
      async *runJob() {
        yield event({ case: 'submitted', value: jobOf(...executions) });
        yield event({ case: 'output', value: chunk('x\ny', 0n, 'stdout', 'e1', 'a') });
        yield event({ case: 'output', value: chunk('z\n', 0n, 'stdout', 'e2', 'longer') });
        yield event({ case: 'output', value: chunk('y\n', 3n, 'stdout', 'e1', 'a') });
        const done = [
          ended({}, JobState.SUCCEEDED, 'e1', 'a'),
          ended({ exitCode: 9 }, JobState.FAILED, 'e2', 'longer'),
        ];
        yield event({ case: 'finished', value: jobOf(...done) });
      },
    },
  });
  const argv = ['--context', fleet.contextPath, 'job', 'run', '--all', '*', '--image', 'i', '--', 'x'];
  const result = await runCli(argv);
  assert.equal(result.out, 'a      | x\nlonger | z\na      | yy\n');
  assert.match(result.err, /AGENT +STATE +EXIT/);
  assert.equal(result.code, 9);
  const json = (await runCli([...argv.slice(0, -2), '--json', '--', 'x'])).json() as { executions: unknown[] };
  assert.equal(json.executions.length, 2);
});

test('what the controller refuses is told with its violations and a code', async () => {
  await using fleet = await startFleet({
    jobs: {
      // biome-ignore lint/correctness/useYield: it refuses before the first event.
      async *runJob() {
        throw new ConnectError('no such agent', Code.NotFound);
      },
    },
  });
  const result = await runCli(['--context', fleet.contextPath, '--json', ...RUN, '--', 'x']);
  assert.equal(result.code, 3);
  assert.equal(result.out, '');
  const { error } = JSON.parse(result.err) as { error: { reason: string; message: string } };
  assert.deepEqual([error.reason, error.message], ['not_found', 'no such agent']);
});

test('options that do not go together are usage errors', async () => {
  await using fleet = await startFleet({});
  const base = ['--context', fleet.contextPath, 'job', 'run'];
  const wrong = [
    ['--', 'x'],
    ['--agent', 'a', '--all', '*', '--', 'x'],
    ['--agent', 'a'],
    ['--agent', 'a', '--shell', 'x', '--', 'y'],
    ['--all', '*', '-i', '--', 'x'],
    ['--agent', 'a', '--memory', 'lots', '--', 'x'],
    ['--agent', 'a', '-i', '--stdin-file', '/dev/null', '--', 'x'],
    ['--agent', 'a', '-d', '-i', '--', 'x'],
    ['--agent', 'a', '--signed', '/nonexistent', '--', 'x'],
  ];
  for (const argv of wrong) assert.equal((await runCli([...base, ...argv])).code, 2, argv.join(' '));
});

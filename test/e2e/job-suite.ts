// What a user of jobs is promised, through the command line, a real controller, a real agent and a real engine.
// Called once per kind of engine.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { RunningCommand, runCommand } from '../fixtures/command.ts';
import { listContainers, untilNoContainers } from '../fixtures/engine-query.ts';
import type { TestEngine } from '../fixtures/engines.ts';
import { type Fleet, type JobView, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { loadTestImages, TEST_IMAGE } from '../fixtures/test-image.ts';

const AGENT = 'host-1';
/** Goes on until it is told to end; without a handler the kernel keeps TERM from a first process. */
const UNTIL_TERM = 'trap "exit 0" TERM; echo up; sleep 1000 & wait';

interface ListedJob {
  readonly id: string;
  readonly state: string;
}

/** Declares the suite for one engine. `missing` says what the host lacks for it. */
export function jobSuite(name: string, start: () => Promise<TestEngine>, missing: string | undefined): void {
  describe(`jobs, end to end, on ${name}`, { skip: missing ?? false }, () => {
    let engine: TestEngine;
    let fleet: Fleet;
    let agent: TestAgent;
    before(async () => {
      engine = await start();
      await loadTestImages(engine);
      fleet = await startFleet({ dockerHost: engine.host });
      agent = await fleet.enrolled(AGENT);
    });
    // What a failed test leaves running must not fail those that follow.
    afterEach(async () => {
      const running = (await fleet.longline('job', 'ls', '--state', 'running', '--json')).json<ListedJob[]>();
      for (const { id } of running) await fleet.longline('job', 'cancel', id);
    });
    after(async () => {
      await fleet?.[Symbol.asyncDispose]();
      await engine?.dispose();
    });

    const run = (...args: string[]) => fleet.longline('job', 'run', '--agent', AGENT, ...args);
    const background = (...args: string[]) => new RunningCommand(['job', 'run', '--agent', AGENT, ...args], fleet.env);

    test('output and exit code of the job are those of the command', async () => {
      const outcome = await run('--', 'sh', '-c', 'echo out; echo err >&2; exit 7');
      assert.equal(outcome.stdout.toString(), 'out\n');
      assert.match(outcome.stderr, /^err$/m);
      assert.equal(outcome.code, 7);
    });

    test('--json ends with one result', async () => {
      const job = await fleet.job(AGENT, ['--image', TEST_IMAGE], ['sh', '-c', 'printf 12345; printf 123 >&2']);
      assert.equal(job.agent, AGENT);
      assert.equal(job.state, 'succeeded');
      assert.equal(job.reason, 'exited');
      assert.equal(job.exit_code, 0);
      assert.equal(job.stdout_bytes, 5);
      assert.equal(job.stderr_bytes, 3);
      assert.ok(Date.parse(job.started_at!) <= Date.parse(job.ended_at!));
      const again = await fleet.longline('job', 'get', job.id, '--json');
      assert.equal(again.json<JobView>().id, job.id);
    });

    test('standard input reaches the job and binary output comes back unchanged', async () => {
      const input = randomBytes(1_500_000);
      const outcome = await runCommand(['job', 'run', '--agent', AGENT, '--stdin', '--', 'cat'], fleet.env, input);
      assert.equal(outcome.code, 0, outcome.stderr);
      const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
      assert.equal(outcome.stdout.length, input.length);
      assert.equal(digest(outcome.stdout), digest(input));
    });

    test('logs are read from any offset, and followed to their end', async () => {
      const job = await fleet.job(AGENT, [], ['seq', '1', '20000']);
      const whole = (await fleet.longline('job', 'logs', job.id)).stdout;
      const expected = Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join('');
      assert.equal(whole.toString(), expected);
      const tail = await fleet.longline('job', 'logs', job.id, '--from', '100000', '--follow');
      assert.equal(tail.stdout.toString(), expected.slice(100_000));
    });

    test('a follower of a running job sees output as it comes', async () => {
      await using job = background('--stdin', '--', 'sh', '-c', 'echo first; read line; echo got $line');
      await job.until('first line', () => (job.stdout.includes('first\n') ? true : undefined));
      job.process.stdin!.end('second\n');
      const outcome = await job.outcome();
      assert.equal(outcome.stdout.toString(), 'first\ngot second\n');
      assert.equal(outcome.code, 0);
    });

    test('a timeout ends the job and says so', async () => {
      const outcome = await run('--timeout', '1s', '--json', '--', 'sh', '-c', UNTIL_TERM);
      const job = outcome.json<JobView>();
      assert.equal(job.state, 'timed_out');
      assert.equal(job.reason, 'timeout');
      assert.equal(outcome.code, 124);
    });

    test('Ctrl-C cancels', async () => {
      await using job = background('--json', '--output', '--', 'sh', '-c', UNTIL_TERM);
      await job.until('output', () => (job.stdout.includes('up') ? true : undefined));
      job.process.kill('SIGINT');
      const outcome = await job.outcome();
      assert.equal(outcome.code, 130, outcome.stderr);
      const listed = (await fleet.longline('job', 'ls', '--json')).json<ListedJob[]>();
      assert.equal(listed[0]?.state, 'cancelled');
    });

    test('job cancel ends a job that another command follows', async () => {
      await using job = background('--', 'sh', '-c', UNTIL_TERM);
      await job.until('output', () => (job.stdout.includes('up') ? true : undefined));
      // Output and state come by streams of their own.
      const running = await fleet.until('it is listed as running', async () => {
        const [newest] = (await fleet.longline('job', 'ls', '--json')).json<ListedJob[]>();
        return newest?.state === 'running' ? newest : undefined;
      });
      assert.equal((await fleet.longline('job', 'cancel', running.id)).code, 0);
      assert.notEqual((await job.outcome()).code, 0);
      const ended = (await fleet.longline('job', 'get', running.id, '--json')).json<JobView>();
      assert.equal(ended.state, 'cancelled');
      assert.equal(
        (await fleet.longline('job', 'cancel', running.id)).code,
        0,
        'cancelling what has ended is no error',
      );
    });

    test('an unknown image and an unknown program fail with their reasons', async () => {
      const image = await fleet.job(AGENT, ['--image', 'longline-test/absent:1', '--pull', 'never'], ['true']);
      assert.equal(image.state, 'failed');
      assert.equal(image.reason, 'image_unavailable');
      const program = await fleet.job(AGENT, [], ['/no/such/program']);
      assert.equal(program.state, 'failed');
      assert.equal(program.reason, 'start_failed');
    });

    test('what reaches beyond the sandbox is refused, and the refusal names the rule', async () => {
      for (const [args, rule] of [
        [['--network', 'host'], /network/],
        [['--cap-add', 'SYS_ADMIN'], /capabilit/],
        [['--mount', '/etc:/mnt'], /mount/],
        [['--user', '0:0'], /user/],
      ] as const) {
        const outcome = await run(...args, '--json', '--', 'true');
        const job = outcome.json<JobView>();
        assert.equal(job.state, 'rejected', args.join(' '));
        assert.match(outcome.stderr + outcome.stdout, rule);
      }
    });

    test('a job signed elsewhere runs once; tampered with or again it is refused', async () => {
      const key = join(fleet.folder, `${name}.key`);
      const trust = join(fleet.folder, `agent-${AGENT}`, 'trust.toml');
      const made = await fleet.longline('key', 'generate', '--type', 'ed25519', '--out', key, '--json');
      assert.equal(made.code, 0, made.stderr);
      const signed = join(fleet.folder, `${name}.signed`);
      const spec = join(fleet.folder, `${name}.json`);
      await writeFile(spec, JSON.stringify({ image: TEST_IMAGE, argv: ['echo', 'signed elsewhere'] }));
      const sign = ['key', 'sign', '--key', key, '--controller-id', 'offline', '--agent', AGENT];
      assert.equal((await fleet.longline(...sign, '--spec', spec, '--out', signed)).code, 0);

      const early = await run('--signed', signed, '--json');
      assert.equal(early.json<JobView>().state, 'rejected', 'the key is not trusted yet');
      const grant = ['--controller', 'offline', '--capability', 'jobs'];
      const trusted = await fleet.longline('key', 'trust', '--key', key, '--trust-file', trust, ...grant);
      assert.equal(trusted.code, 0, trusted.stderr);
      agent.command.process.kill('SIGHUP');
      await agent.command.until('trust', () => (agent.command.stderr.includes('read anew') ? true : undefined));

      const once = await run('--signed', signed);
      assert.equal(once.stdout.toString(), 'signed elsewhere\n', once.stderr);
      const replay = await run('--signed', signed, '--json');
      assert.equal(replay.json<JobView>().state, 'rejected');
      assert.match(replay.stdout.toString() + replay.stderr, /nonce/);

      const text = await readFile(signed, 'utf8');
      const envelope = JSON.parse(text) as { payload: string };
      const payload = Buffer.from(envelope.payload, 'base64');
      payload[payload.indexOf('elsewhere')]! ^= 1;
      await writeFile(signed, JSON.stringify({ ...envelope, payload: payload.toString('base64') }));
      const tampered = await run('--signed', signed, '--json');
      assert.equal(tampered.json<JobView>().state, 'rejected');
      assert.match(tampered.stdout.toString() + tampered.stderr, /signature/);
    });

    test('containers carry the label while they run, and none is left at the end', async () => {
      await untilNoContainers(engine.socketPath);
      await using job = background('--', 'sh', '-c', UNTIL_TERM);
      await job.until('output', () => (job.stdout.includes('up') ? true : undefined));
      const during = await listContainers(engine.socketPath);
      assert.equal(during.length, 1);
      const instanceId = await readFile(join(fleet.folder, `agent-${AGENT}`, 'instance-id'), 'utf8');
      assert.equal(during[0]!.Labels['longline'], instanceId.trim());
      job.process.kill('SIGINT');
      await job.outcome();
      await untilNoContainers(engine.socketPath);
    });
  });
}

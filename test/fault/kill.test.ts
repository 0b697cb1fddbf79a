// kill -9 in the middle of a job that prints numbered lines: of the agent, of the controller, of the engine; and a stop in
// order of the agent. When it comes is drawn from the seed: after so many lines were seen. Every line must be there once
// and in order, or be declared lost; the job must have run once; no container may be left.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { RunningCommand } from '../fixtures/command.ts';
import { CreationWatch, untilNoContainers } from '../fixtures/engine-query.ts';
import { dockerMissing, startDocker, type TestEngine } from '../fixtures/engines.ts';
import { type Fleet, type JobView, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { faultSeeds, seededRandom } from '../fixtures/seeded-random.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../fixtures/test-image.ts';

const LINES = 4000;
/** Prints the lines in bursts over about two seconds. */
const SCRIPT = `i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); echo "line $i"; [ $((i % 100)) -ne 0 ] || sleep 0.05; done`;

interface SubmittedJob {
  readonly id: string;
}

/** A line of `job logs --json`: bytes as text or base64, or a gap. */
interface LogPart {
  readonly stream: string;
  readonly offset?: number;
  readonly text?: string;
  readonly base64?: string;
  readonly lost_bytes?: number;
}

describe('kill -9', { skip: dockerMissing() ?? testImageMissing() ?? false }, () => {
  let engine: TestEngine;
  let fleet: Fleet;
  let agent: TestAgent;
  let creations: CreationWatch;
  before(async () => {
    engine = await startDocker();
    await loadTestImages(engine);
    creations = new CreationWatch(engine.socketPath);
    await creations.open();
    fleet = await startFleet({ dockerHost: engine.host });
    agent = await fleet.enrolled('victim', ['--reconnect-cap', '1s']);
  });
  // What a failed test has killed or left must not fail those that follow.
  afterEach(async () => {
    await engine.restart();
    await creations.open();
    await fleet.mend();
    await untilNoContainers(engine.socketPath);
  });
  after(async () => {
    creations?.[Symbol.dispose]();
    await fleet?.[Symbol.asyncDispose]();
    await engine?.dispose();
  });

  for (const seed of faultSeeds(3)) {
    const lines = 1 + Math.floor(seededRandom(seed * 7919)() * LINES * 0.9);

    test(`the agent after ${lines} lines (seed ${seed})`, async () => {
      const job = await submitted();
      await seen(job, lines);
      await agent.kill9();
      agent.start();
      const ended = await result(job);
      assert.equal(ended.state, 'succeeded', JSON.stringify(ended));
      assert.equal(await checkedLines(job), LINES, 'nothing may be lost: the engine kept it all');
      await ranOnceAndLeftNothing(job);
    });

    test(`the agent stopped in order after ${lines} lines (seed ${seed})`, async () => {
      const job = await submitted();
      await seen(job, lines);
      await agent.stop();
      agent.start();
      const ended = await result(job);
      assert.equal(ended.state, 'succeeded', JSON.stringify(ended));
      assert.equal(await checkedLines(job), LINES, 'nothing may be lost: the engine kept it all');
      await ranOnceAndLeftNothing(job);
    });

    test(`the controller after ${lines} lines (seed ${seed})`, async () => {
      const job = await submitted();
      await seen(job, lines);
      await fleet.controller.stop('SIGKILL');
      await fleet.startController();
      const ended = await result(job);
      assert.equal(ended.state, 'succeeded', JSON.stringify(ended));
      assert.equal(await checkedLines(job), LINES, 'nothing may be lost: the agent kept it all');
      await ranOnceAndLeftNothing(job);
    });

    test(`the engine after ${lines} lines (seed ${seed})`, async () => {
      const job = await submitted();
      await seen(job, lines);
      await engine.kill9();
      await engine.restart();
      await creations.open();
      const ended = await result(job);
      // Without live restore dockerd ends what ran when it comes back, so the job fails; it must not hang or run again.
      assert.ok(['failed', 'succeeded', 'indeterminate'].includes(ended.state), JSON.stringify(ended));
      await checkedLines(job);
      await ranOnceAndLeftNothing(job);
    });
  }

  test('Ctrl-C while the controller is away leaves after a while and says that the job goes on', async () => {
    const until = ['sh', '-c', 'trap "exit 0" TERM; echo up; sleep 1000 & wait'];
    await using job = new RunningCommand(
      ['job', 'run', '--agent', agent.id, '--image', TEST_IMAGE, '--', ...until],
      fleet.env,
    );
    await job.until('output', () => (job.stdout.includes('up') ? true : undefined));
    await fleet.controller.stop('SIGKILL');
    job.process.kill('SIGINT');
    const outcome = await job.outcome(60_000);
    assert.equal(outcome.code, 5, outcome.stderr);
    const [, id] = /Job ([0-9a-f-]+) goes on/.exec(outcome.stderr) ?? assert.fail(outcome.stderr);
    await fleet.startController();
    assert.equal((await fleet.longline('job', 'cancel', id!)).code, 0);
    assert.equal((await result(id!)).state, 'cancelled');
    await ranOnceAndLeftNothing(id!);
  });

  async function submitted(): Promise<string> {
    const args = ['job', 'submit', '--agent', agent.id, '--image', TEST_IMAGE, '--json', '--', 'sh', '-c', SCRIPT];
    return (await fleet.longline(...args)).json<SubmittedJob>().id;
  }

  /** Resolves once a follower has seen so many lines. */
  async function seen(job: string, lines: number): Promise<void> {
    await using follower = new RunningCommand(['job', 'logs', job, '--follow'], fleet.env);
    await follower.until(`${lines} lines`, () => (follower.stdout.split('\n').length > lines ? true : undefined));
  }

  async function result(job: string): Promise<JobView> {
    return await fleet.until(
      `job ${job} ended`,
      async () => {
        const outcome = await fleet.longline('job', 'wait', job, '--timeout', '20s', '--json');
        if (outcome.stdout.length === 0) return undefined;
        const view = outcome.json<JobView>();
        return ['pending', 'queued', 'preparing', 'running', 'stopping'].includes(view.state) ? undefined : view;
      },
      () => agent.command.stderr,
    );
  }

  /** Reads the log back and checks it; gives how many whole lines there are. */
  async function checkedLines(job: string): Promise<number> {
    const outcome = await fleet.longline('job', 'logs', job, '--follow', '--json');
    assert.equal(outcome.code, 0, outcome.stderr);
    let text = '';
    let at = 0;
    let lost = 0;
    for (const line of outcome.stdout.toString().trim().split('\n').filter(Boolean)) {
      const part = JSON.parse(line) as LogPart;
      if (part.lost_bytes !== undefined) {
        lost += Number(part.lost_bytes);
        at += Number(part.lost_bytes);
        continue;
      }
      const data = part.text ?? Buffer.from(part.base64!, 'base64').toString();
      assert.equal(Number(part.offset), at, 'every byte is there once or declared lost');
      at += data.length;
      text += data;
    }
    const numbers = [...text.matchAll(/line (\d+)\n/g)].map((match) => Number(match[1]));
    if (lost === 0) {
      // Without a declared gap the output is a prefix of what the job prints.
      const expected = Array.from({ length: numbers.length }, (_, index) => `line ${index + 1}\n`).join('');
      const end = [...expected].findIndex((char, at) => text[at] !== char);
      const around = JSON.stringify(text.slice(Math.max(0, end - 40), end + 40));
      assert.ok(end < 0, `the output is another from byte ${end} on: ${around}`);
    }
    for (const [index, number] of numbers.entries()) {
      if (index > 0) assert.ok(number > numbers[index - 1]!, `line ${number} after ${numbers[index - 1]}`);
    }
    return numbers.length;
  }

  async function ranOnceAndLeftNothing(job: string): Promise<void> {
    const view = (await fleet.longline('job', 'get', job, '--json')).json<{ execution_id: string }>();
    const made = creations.created.filter((labels) => labels['longline.job'] === view.execution_id);
    assert.equal(made.length, 1, 'one execution, one container');
    await untilNoContainers(engine.socketPath);
  }
});

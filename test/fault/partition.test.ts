// A network that drops, stalls, half-opens and cuts in the middle of a frame, between agent and controller, while a job
// prints numbered lines. The job must not notice, and every line must arrive once and in order.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { RunningCommand } from '../fixtures/command.ts';
import { untilNoContainers } from '../fixtures/engine-query.ts';
import { dockerMissing, sharedDocker, type TestEngine } from '../fixtures/engines.ts';
import { FaultProxy } from '../fixtures/fault-proxy.ts';
import { type Fleet, type JobView, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { faultSeeds, seededRandom } from '../fixtures/seeded-random.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../fixtures/test-image.ts';

const LINES = 3000;
const SCRIPT = `i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); echo "line $i"; [ $((i % 100)) -ne 0 ] || sleep 0.05; done`;
const EXPECTED = Array.from({ length: LINES }, (_, index) => `line ${index + 1}\n`).join('');

describe('partition', { skip: dockerMissing() ?? testImageMissing() ?? false }, () => {
  let engine: TestEngine;
  let fleet: Fleet;
  let proxy: FaultProxy;
  let agent: TestAgent;
  before(async () => {
    engine = await sharedDocker();
    await loadTestImages(engine);
    // Short heartbeats, so that a dead peer is noticed in seconds.
    fleet = await startFleet({ dockerHost: engine.host, controllerArgs: ['--heartbeat', '1s'] });
    proxy = await FaultProxy.start(Number(new URL(fleet.url).port));
    agent = await fleet.enrolled('behind', ['--reconnect-cap', '1s'], `https://127.0.0.1:${proxy.port}`);
  });
  // The fault of a failed test, and its job, must not fail those that follow.
  afterEach(async () => {
    proxy.inject({ kind: 'pass' });
    await untilNoContainers(engine.socketPath);
  });
  after(async () => {
    await fleet?.[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
    await engine?.dispose();
  });

  test('a stall is waited out or reconnected over', async () => {
    await survives(async () => {
      proxy.inject({ kind: 'stall' });
      await offline();
      proxy.inject({ kind: 'pass' });
    });
  });

  test('a half-open connection is noticed and replaced', async () => {
    await survives(async () => {
      proxy.inject({ kind: 'half_open' });
      await offline();
      proxy.inject({ kind: 'pass' });
    });
  });

  test('reset connections, and new ones refused for a while, lose nothing', async () => {
    await survives(async () => {
      proxy.inject({ kind: 'refuse' });
      proxy.reset();
      await offline();
      proxy.inject({ kind: 'pass' });
    });
  });

  test('new connections that are never answered do not hang the agent', async () => {
    await survives(async () => {
      const before = proxy.accepted;
      proxy.inject({ kind: 'swallow' });
      proxy.reset();
      await fleet.until('another try', async () => {
        await offline();
        return proxy.accepted > before ? true : undefined;
      });
      proxy.inject({ kind: 'pass' });
    });
  });

  for (const seed of faultSeeds(3)) {
    test(`cut in the middle of a frame, again and again (seed ${seed})`, async () => {
      const random = seededRandom(seed * 104_729);
      await survives(async () => {
        for (let cut = 0; cut < 4; cut++) {
          const before = proxy.accepted;
          // From within a TLS handshake to within a batch of output.
          proxy.inject({ kind: 'cut_after', bytes: Math.floor(random() ** 2 * 3000) });
          await fleet.until('a new connection', async () => {
            // Something must be sent for the cut to come; output and, once the job is over, heartbeats do.
            await fleet.longline('agents', 'get', agent.id, '--json');
            return proxy.accepted > before ? true : undefined;
          });
        }
        proxy.inject({ kind: 'pass' });
      });
    });
  }

  /** Runs the job, does `harm` after its first lines, and checks that all of it arrived. */
  async function survives(harm: () => Promise<void>): Promise<void> {
    await agent.online();
    const args = ['job', 'run', '--agent', agent.id, '--image', TEST_IMAGE, '--', 'sh', '-c', SCRIPT];
    await using job = new RunningCommand(args, fleet.env);
    await job.until('first lines', () => (job.stdout.length > 1000 ? true : undefined));
    await harm();
    const outcome = await job.outcome();
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.equal(outcome.stdout.toString(), EXPECTED);
    const [listed] = (await fleet.longline('job', 'ls', '--json')).json<JobView[]>();
    assert.equal(listed?.state, 'succeeded');
    await untilNoContainers(engine.socketPath);
  }

  async function offline(): Promise<void> {
    await fleet.until('agent offline', async () => {
      const outcome = await fleet.longline('agents', 'get', agent.id, '--json');
      return outcome.json<{ state: string }>().state === 'online' ? undefined : true;
    });
  }
});

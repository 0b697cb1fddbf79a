// Election by a service of a real Docker Swarm. Three replicas are stopped, continued and killed at random, while the engine is
// halted and killed, loses answers and carries out writes that nobody waits for; what no order of that may break is
// said in the stage. Then two agents as an operator starts them. One engine for all.
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { judged, NAMES, openStage, pause, TIMES } from '../fixtures/election-stage.ts';
import { dockerMissing, startDocker, type TestEngine } from '../fixtures/engines.ts';
import { startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { LosingEngine, type Loss } from '../fixtures/losing-engine.ts';
import { faultSeeds, seededRandom } from '../fixtures/seeded-random.ts';
import { initSwarm, service, untilManaged } from '../fixtures/swarm.ts';

const STEPS = 10;

describe('election by a Swarm service', { skip: dockerMissing() ?? false }, () => {
  let engine: TestEngine;
  before(async () => {
    engine = await startDocker({ network: 'own' });
    await initSwarm(engine);
  });
  after(() => engine?.dispose());

  for (const seed of faultSeeds(1)) {
    test(`replicas stopped, continued and killed, engine halted and killed, answers lost (seed ${seed})`, async () => {
      const random = seededRandom(seed * 49_979_687);
      const drizzle = (): Loss => {
        const what = random();
        if (what < 0.05) return { kind: 'answer' };
        return what < 0.1 ? { kind: 'late', ms: TIMES.ttlMs * 2 * random() } : { kind: 'pass' };
      };
      await using losing = await LosingEngine.start(engine, drizzle);
      await using play = await openStage({ swarm: { host: losing.host, service: `judged-${seed}` } });
      await play.later(0);
      for (let step = 0; step < STEPS; step++) {
        const replica = play.replicas[Math.floor(random() * NAMES.length)]!;
        const what = random();
        if (what < 0.45) {
          replica.halt();
          await pause(TIMES.ttlMs * (0.5 + 1.5 * random()));
          replica.goOn();
        } else if (what < 0.65) {
          await replica.replace();
        } else if (what < 0.9) {
          await engine.freeze();
          await pause(TIMES.ttlMs * 1.5 * random());
          engine.thaw();
        } else {
          await engine.kill9();
          await engine.restart();
        }
        await pause(300 * random());
      }
      // Whatever happened, one leads in the end, and goes on leading.
      const count = (await play.acts()).length;
      while ((await play.acts()).length < count + 20) await pause(50);
      assert.ok(judged(await play.acts()) > 1, 'the leader changed');
      assert.ok(losing.lost > 0);
    });
  }

  test('two agents: kill -9 of the leader, and an orderly stop; the service tells who leads', async (context) => {
    await untilManaged(engine);
    await using fleet = await startFleet({ dockerHost: engine.host });
    // A third of what a lease is by default, as is the wait for it.
    const lease = ['--ha-lease-ttl', '3s', '--ha-renew-interval', '1s'];
    const ha = ['--enable-ha', '--leader-election-backend', 'swarm', ...lease];
    const agents = [fleet.agent('swarmed', ha), fleet.agent('swarmed', ha)] as const;
    const token = await fleet.token();
    agents[0].start(['--token', token]);
    await agents[0].online();
    agents[1].start(['--token', token]);
    await standsBy(agents[1]);

    const killedMs = Date.now();
    await agents[0].kill9();
    await takenOver(context, 'kill -9', agents[1], 2n, killedMs);
    await agents[1].online();

    agents[0].start();
    await standsBy(agents[0]);
    await agents[1].stop();
    await takenOver(context, 'an orderly stop', agents[0], 3n, Date.now());
    const { Labels } = (await service(engine, 'longline-leader-swarmed')).Spec;
    assert.equal(Labels['longline.leader.epoch'], '3');
    assert.equal(Labels['longline.leader.agent'], 'swarmed');
  });
});

interface Line {
  readonly msg: string;
  readonly time: number | string;
  readonly epoch?: string;
}

/** The first line of an agent's log with this message. */
async function logged(agent: TestAgent, msg: string): Promise<Line> {
  return await agent.command.until(msg, () => {
    const lines = agent.command.stderr.split('\n').slice(0, -1);
    return lines
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line)
      .find((line) => line.msg === msg);
  });
}

const standsBy = async (agent: TestAgent) => await logged(agent, 'another replica leads');

async function takenOver(
  context: TestContext,
  what: string,
  by: TestAgent,
  epoch: bigint,
  sinceMs: number,
): Promise<void> {
  const line = await logged(by, 'this replica leads');
  assert.equal(line.epoch, String(epoch));
  context.diagnostic(`after ${what} the other led in ${new Date(line.time).getTime() - sinceMs} ms`);
}

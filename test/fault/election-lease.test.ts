// Three replicas that are stopped, continued and killed at random, on an API server of Kubernetes that is gone, silent, overloaded,
// loses questions and answers, and changes tokens. What no order of faults may break is said in the stage.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { judged, LASTING, latestEpoch, NAMES, openStage, pause } from '../fixtures/election-stage.ts';
import { type ApiFault, KubernetesApi } from '../fixtures/kubernetes-api.ts';
import { faultSeeds, seededRandom } from '../fixtures/seeded-random.ts';

/** A Lease counts whole seconds. */
const TIMES = { ttlMs: 1000, renewMs: 250, retryMs: 100 };
const STEPS = 8;
const OVERLOADED: ApiFault = { kind: 'status', status: 429, reason: 'TooManyRequests', retryAfter: '1' };

// Side by side: each has replicas and a server of its own, and most of the time they wait.
describe('election by a Lease', { concurrency: 3 }, () => {
  for (const seed of faultSeeds(2)) {
    test(`replicas and API server hit by faults: never two leaders act (seed ${seed})`, async () => {
      const random = seededRandom(seed * 32_452_843);
      await using api = await KubernetesApi.start();
      // Whatever else happens, a few questions and answers are lost, and some are carried out when nobody waits for them.
      const drizzle = (): ApiFault | undefined => {
        const what = random();
        if (what < 0.03) return { kind: 'lostQuestion' };
        if (what < 0.06) return { kind: 'lostAnswer' };
        if (what < 0.08) return { kind: 'late', when: pause(2000 * random()) };
        return undefined;
      };
      api.fault = drizzle;
      await using play = await openStage({ kubernetes: api.place }, TIMES);
      await play.later(0);
      for (let step = 0; step < STEPS; step++) {
        const replica = play.replicas[Math.floor(random() * NAMES.length)]!;
        const what = random();
        if (what < 0.4) {
          replica.halt();
          await pause(TIMES.ttlMs * (0.5 + 1.5 * random()));
          replica.goOn();
        } else if (what < 0.6) {
          await replica.replace();
        } else if (what < 0.75) {
          await api.stop();
          await pause(TIMES.ttlMs * 1.5 * random());
          await api.resume();
        } else if (what < 0.9) {
          api.fault = () => (random() < 0.5 ? OVERLOADED : { kind: 'silent' });
          await pause(TIMES.ttlMs * 1.5 * random());
          api.fault = drizzle;
        } else {
          await api.rotate();
        }
        await pause(300 * random());
      }
      // Whatever happened, one leads in the end, and when that is killed another.
      const epoch = await latestEpoch(play);
      const { name } = (await play.acts()).findLast((act) => act.epoch === epoch)!;
      await play.replicas[NAMES.indexOf(name)]!.replace();
      await play.later(epoch);
      assert.ok(judged(await play.acts()) > 1, 'the leader changed');
      assert.deepEqual(api.violations, []);
    });
  }

  test('an orderly stop hands over, and waits for no lease to lapse', async () => {
    await using api = await KubernetesApi.start();
    await using play = await openStage({ kubernetes: api.place }, LASTING);
    const first = await play.later(0);
    await play.replicas[NAMES.indexOf(first.name)]!.end('SIGTERM');
    await play.later(first.epoch);
  });

  test('a leader that is stopped past its time notices before it acts', async () => {
    await using api = await KubernetesApi.start();
    await using play = await openStage({ kubernetes: api.place }, { ...TIMES, retryMs: 1000 });
    const first = await play.later(0);
    const stopped = play.replicas[NAMES.indexOf(first.name)]!;
    stopped.halt();
    await play.later(first.epoch);
    stopped.goOn();
    const { stderr } = stopped;
    while (stopped.stderr === stderr) await pause(20);
    assert.match(stopped.stderr, /no longer leads/);
    judged(await play.acts());
  });
});

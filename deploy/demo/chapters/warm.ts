// Warm containers: started ahead, used once, the same isolation. Shown beside cold ones on the same engine.
import { setTimeout as delay } from 'node:timers/promises';
import { formatDuration } from '../../../src/core/clock.ts';
import { DEMO_IMAGE } from '../../dev/engine.ts';
import type { Chapter, JobView } from '../chapter.ts';
import { DEMO_AGENT, type Stage } from '../stage.ts';

const WARM_AGENT = 'demo-warm';
const RUNS = 5;

async function warmContainerUp(stage: Stage): Promise<void> {
  const endsAt = performance.now() + 20_000;
  while (!(await stage.containers()).some((container) => container.State === 'running')) {
    if (performance.now() > endsAt) throw new Error('no warm container came up within 20 s');
    await delay(25);
  }
}

/** Milliseconds from "stored by the controller" to "the process runs", best of some. */
async function bestStartMs(stage: Stage, agent: string, warm: boolean): Promise<number> {
  const times: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    if (warm) await warmContainerUp(stage);
    const job = (await stage.fleet.longline('job', 'run', '--agent', agent, '--json', '--', 'true')).json<JobView>();
    if (job.state !== 'succeeded' || job.warm !== warm) {
      throw new Error(`job ended as ${job.state}, ${job.warm ? 'warm' : 'cold'}`);
    }
    times.push(Date.parse(job.started_at!) - Date.parse(job.created_at));
  }
  return Math.min(...times);
}

/** Chapter "warm". */
export const warmChapter: Chapter = {
  title: 'Warm pool: containers that wait for their command',
  run: async (stage, report) => {
    await report.step('agent with a warm pool', 'online', async () => {
      await stage.enrol(WARM_AGENT, ['--warm-pool', `${DEMO_IMAGE}=1`]);
      return 'online';
    });
    await report.step('warm starts sooner than cold', 'yes', async () => {
      const coldMs = await bestStartMs(stage, DEMO_AGENT, false);
      const warmMs = await bestStartMs(stage, WARM_AGENT, true);
      stage.screen.say(
        `stored → running, best of ${RUNS}: cold ${formatDuration(coldMs)}, warm ${formatDuration(warmMs)}`,
      );
      return warmMs < coldMs ? 'yes' : `no: ${warmMs} ms against ${coldMs} ms`;
    });
  },
};

// What can be shown where no container can run: keys, offline signing, policy, the controller and its API, and an agent
// that is online and says why it takes no jobs.
import { join } from 'node:path';
import { DEMO_IMAGE } from '../../dev/engine.ts';
import type { Chapter } from '../chapter.ts';
import { DEMO_AGENT } from '../stage.ts';

interface Capability {
  readonly name: string;
  readonly available: boolean;
  readonly reason: string;
  readonly mend: string;
}

/** Chapter for machines without an engine. */
export const withoutEngineChapter: Chapter = {
  title: 'Without a container engine: what still works',
  run: async (stage, report) => {
    const place = (name: string) => join(stage.fleet.folder, name);
    await report.step('own signing key', 'exit 0', async () => {
      return `exit ${(await stage.longline(['key', 'generate', '--out', place('me.key')])).code}`;
    });
    await report.step('sign a job offline', 'exit 0', async () => {
      const args = ['job', 'sign', '--sign-key', place('me.key'), '--agent', DEMO_AGENT, '--image', DEMO_IMAGE];
      return `exit ${(await stage.longline([...args, '--out', place('job.json'), '--', 'uname', '-a'])).code}`;
    });
    await report.step('would policy allow it?', 'exit 0', async () => {
      return `exit ${(await stage.longline(['policy', 'explain', '--image', DEMO_IMAGE, '--', 'uname', '-a'])).code}`;
    });
    await report.step('jobs, unavailable with reason and mend', 'yes', async () => {
      const { stdout } = await stage.longline(['agents', 'get', DEMO_AGENT, '--json'], { quiet: true });
      const { capabilities } = JSON.parse(stdout.toString()) as { capabilities: Capability[] };
      const jobs = capabilities.find((capability) => capability.name === 'jobs');
      stage.screen.say(`jobs: ${jobs?.reason}; ${jobs?.mend}`);
      return jobs !== undefined && !jobs.available && jobs.reason !== '' && jobs.mend !== '' ? 'yes' : 'no';
    });
  },
};

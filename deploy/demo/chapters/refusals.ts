// What doesn't run, or not to its end: an offline-signed job before and after the host trusts its key, the same job again,
// a forged one, one that policy forbids, one that takes too long, one that is cancelled.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DEMO_IMAGE } from '../../dev/engine.ts';
import type { Chapter, JobView } from '../chapter.ts';
import type { Report } from '../report.ts';
import { DEMO_AGENT, STEP_LIMIT_MS, type Stage } from '../stage.ts';

/** A shell as main process takes no notice of TERM; KILL follows after this. */
const GRACE = ['--stop-grace', '1s'];
const RUN = ['job', 'run', '--agent', DEMO_AGENT];

async function forge(from: string, to: string): Promise<void> {
  const envelope = JSON.parse(await readFile(from, 'utf8')) as { payload: string };
  const payload = Buffer.from(envelope.payload, 'base64');
  const at = payload.indexOf('offline');
  if (at < 0) throw new Error('the signed job does not hold its own argument');
  payload.write('OFFLINE', at);
  await writeFile(to, JSON.stringify({ ...envelope, payload: payload.toString('base64') }), { mode: 0o600 });
}

async function rejection(stage: Stage, args: readonly string[]): Promise<string> {
  const outcome = await stage.longline([...RUN, ...args, '--json'], { quiet: true });
  const job = outcome.json<JobView>();
  stage.screen.say(`${job.state}: ${job.error?.message ?? 'no reason given'}`);
  return job.state;
}

async function signatures(stage: Stage, report: Report): Promise<void> {
  const place = (name: string) => join(stage.fleet.folder, name);
  const agentFolder = place(`agent-${DEMO_AGENT}`);
  const sign = ['job', 'sign', '--sign-key', place('me.key'), '--agent', DEMO_AGENT, '--image', DEMO_IMAGE];
  await report.step('own signing key', 'exit 0', async () => {
    const { code } = await stage.longline(['key', 'generate', '--out', place('me.key')]);
    return `exit ${code}`;
  });
  await report.step('sign offline', 'exit 0', async () => {
    const { code } = await stage.longline([...sign, '--out', place('job.json'), '--', 'echo', 'signed', 'offline']);
    return `exit ${code}`;
  });
  await report.step('key not trusted yet', 'rejected', () => rejection(stage, ['--signed', place('job.json')]));
  await report.step('trust the key', 'exit 0', async () => {
    const { code } = await stage.longline([
      ...['key', 'trust', '--key', place('me.key'), '--trust-file', join(agentFolder, 'trust.toml')],
      ...['--controller', '*', '--capability', 'jobs'],
    ]);
    await stage.reload(DEMO_AGENT);
    return `exit ${code}`;
  });
  await report.step('offline-signed job', '"signed offline\\n"', async () => {
    const { stdout } = await stage.longline([...RUN, '--signed', place('job.json')]);
    return JSON.stringify(stdout.toString());
  });
  await report.step('the same job again', 'rejected', () => rejection(stage, ['--signed', place('job.json')]));
  await report.step('one word forged', 'rejected', async () => {
    await forge(place('job.json'), place('forged.json'));
    return await rejection(stage, ['--signed', place('forged.json')]);
  });
}

/** Chapter "refusals". */
export const refusalsChapter: Chapter = {
  title: "Refused, timed out, cancelled: the host's own word counts, not the controller's",
  run: async (stage, report) => {
    await signatures(stage, report);
    await report.step('host network (policy)', 'rejected', async () => {
      const outcome = await stage.longline([...RUN, '--network', 'host', '--json', '--', 'true'], { quiet: true });
      const job = outcome.json<JobView>();
      stage.screen.say(`${job.state} by rule ${job.error?.rule}: ${job.error?.message}`);
      return job.state;
    });
    await report.step('time limit of 1 s', 'exit 124, timed_out', async () => {
      const outcome = await stage.longline([...RUN, '--timeout', '1s', ...GRACE, '--json', '--', 'sleep', '60'], {
        quiet: true,
      });
      return `exit ${outcome.code}, ${outcome.json<JobView>().state}`;
    });
    await report.step('Ctrl-C', 'exit 130, cancelled', async () => {
      await using job = stage.start([...RUN, ...GRACE, '--json', '--output', '--shell', 'echo started; sleep 60']);
      await job.until('first output', () => (job.stdout.includes('started') ? true : undefined));
      stage.screen.say('^C');
      job.process.kill('SIGINT');
      const { code, stdout } = await job.outcome(STEP_LIMIT_MS);
      const text = stdout.toString();
      return `exit ${code}, ${(JSON.parse(text.slice(text.indexOf('{'))) as JobView).state}`;
    });
  },
};

// Signed jobs in hardened containers: live output, exit codes, standard input, logs afterwards.
import type { Chapter, JobView } from '../chapter.ts';
import { DEMO_AGENT, STEP_LIMIT_MS } from '../stage.ts';

const HARDENED = 'id -u; touch /x 2>/dev/null || echo read-only; ls /sys/class/net';

/** Chapter "jobs". */
export const jobsChapter: Chapter = {
  title: 'Jobs: signed by the controller, checked by the agent, run in a hardened container',
  run: async (stage, report) => {
    const run = ['job', 'run', '--agent', DEMO_AGENT];
    await report.step('live output', 'exit 0, 5 lines as they came', async () => {
      const arrivals: number[] = [];
      await using job = stage.start([...run, '--', 'sh', '-c', 'for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done']);
      job.process.stdout!.on('data', () => arrivals.push(performance.now()));
      const { code, stdout } = await job.outcome(STEP_LIMIT_MS);
      const spreadMs = (arrivals.at(-1) ?? 0) - (arrivals[0] ?? 0);
      const lines = stdout.toString().trim().split('\n').length;
      return `exit ${code}, ${lines} lines ${spreadMs > 300 ? 'as they came' : 'all at once'}`;
    });
    await report.step('exit code passes through', 'exit 7', async () => {
      const { code } = await stage.longline([...run, '--shell', 'echo "a shell line"; exit 7']);
      return `exit ${code}`;
    });
    await report.step('standard input', 'exit 0, 3', async () => {
      const { code, stdout } = await stage.longline([...run, '--stdin', '--', 'wc', '-l'], { input: 'a\nb\nc\n' });
      return `exit ${code}, ${stdout.toString().trim()}`;
    });
    await report.step('hardened sandbox', 'user 65534, read-only, only lo', async () => {
      const { stdout } = await stage.longline([...run, '--shell', HARDENED]);
      const [user, root, network] = stdout.toString().trim().split('\n');
      return `user ${user}, ${root}, only ${network}`;
    });
    await report.step('logs from an offset', '"3\\n4\\n5\\n"', async () => {
      const job = (await stage.longline([...run, '--json', '--', 'seq', '1', '5'], { quiet: true })).json<JobView>();
      const { stdout } = await stage.longline(['job', 'logs', job.id, '--from', '4']);
      return JSON.stringify(stdout.toString());
    });
  },
};

// Sessions: a container that stays. Asleep it keeps its memory or its files; a tunnel wakes it; in the end nothing is left.
import { DEMO_IMAGE } from '../../dev/engine.ts';
import type { Chapter } from '../chapter.ts';
import { DEMO_AGENT, type Stage } from '../stage.ts';

const SESSION = 'demo-desk';
/** Counts in memory, and answers on a port with what it is sent. */
const PROGRAM = 'nc -ll -p 7000 -e cat & n=0; while true; do n=$((n+1)); echo $n > /tmp/count; sleep 0.1; done';

interface SessionView {
  readonly state: string;
  readonly starts: number;
  readonly volumes: readonly unknown[];
}

async function act(stage: Stage, ...args: string[]): Promise<SessionView> {
  const outcome = await stage.longline(['session', ...args, '--json'], { quiet: true });
  if (outcome.code !== 0) throw new Error(outcome.stderr.trim());
  const view = outcome.json<SessionView>();
  stage.screen.output(Buffer.from(`${SESSION} ${view.state}\n`));
  return view;
}

async function inside(stage: Stage, line: string): Promise<string> {
  const { stdout, stderr, code } = await stage.longline(['session', 'exec', SESSION, '--', 'sh', '-c', line]);
  if (code !== 0) throw new Error(stderr.trim());
  return stdout.toString().trim();
}

/** Chapter "sessions". */
export const sessionsChapter: Chapter = {
  title: 'Sessions: containers that stay, sleep, and wake when somebody comes',
  run: async (stage, report) => {
    await report.step('a session with a volume, a network and a port', 'running', async () => {
      const what = ['--image', DEMO_IMAGE, '--volume', 'home:/home', '--port', 'echo:7000', '--stop-grace', '1s'];
      const outcome = await stage.longline([
        ...['session', 'start', '--agent', DEMO_AGENT, '--id', SESSION, ...what],
        ...['--', 'sh', '-c', PROGRAM],
      ]);
      return outcome.stdout.toString().split(' ')[1] ?? outcome.stderr.trim();
    });
    await report.step('bytes through the link to its port', '"hello"', async () => {
      const tunnel = ['session', 'tunnel', SESSION, '7000', '--stdio'];
      const { stdout } = await stage.longline(tunnel, { input: 'hello' });
      return JSON.stringify(stdout.toString());
    });
    await report.step('memory is kept while it is paused', 'paused, running, counts on', async () => {
      const before = Number(await inside(stage, 'cat /tmp/count'));
      const asleep = await act(stage, 'hibernate', SESSION, '--tier', 'pause');
      const awake = await act(stage, 'wake', SESSION);
      const after = Number(await inside(stage, 'cat /tmp/count'));
      return `${asleep.state}, ${awake.state}, ${after > before ? 'counts on' : `${before}, then ${after}`}`;
    });
    await report.step(
      'files are kept while it is stopped; a tunnel wakes it',
      'hibernated, "kept", 2 starts',
      async () => {
        await inside(stage, 'echo kept > /home/file');
        const asleep = await act(stage, 'hibernate', SESSION);
        const file = await inside(stage, 'cat /home/file');
        const { starts } = await act(stage, 'get', SESSION);
        return `${asleep.state}, ${JSON.stringify(file)}, ${starts} starts`;
      },
    );
    await report.step('stopped, with nothing of it left', 'ended, 0 containers', async () => {
      const { state } = await act(stage, 'stop', SESSION, '--remove-volumes');
      return `${state}, ${(await stage.containers()).length} containers`;
    });
  },
};

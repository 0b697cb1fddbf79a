// `npm run demo`: everything Longline does, on this machine, in front of you. Starts what it needs, plays the chapters, prints
// a table of what was expected and what came, and leaves nothing behind. Exit code 0 if all was as expected, 1 if not, 130
// after Ctrl-C. Without root or a container engine it says what is missing and shows what can be shown.
import { existsSync } from 'node:fs';
import { findEngine, loadDemoImage, type UsableEngine } from '../dev/engine.ts';
import type { Chapter } from './chapter.ts';
import { auditChapter } from './chapters/audit.ts';
import { jobsChapter } from './chapters/jobs.ts';
import { networkChapter } from './chapters/network.ts';
import { programsChapter } from './chapters/programs.ts';
import { refusalsChapter } from './chapters/refusals.ts';
import { sessionsChapter } from './chapters/sessions.ts';
import { warmChapter } from './chapters/warm.ts';
import { withoutEngineChapter } from './chapters/without-engine.ts';
import { Report } from './report.ts';
import { Screen } from './screen.ts';
import { DEMO_AGENT, Stage } from './stage.ts';

const CHAPTERS: readonly Chapter[] = [
  jobsChapter,
  sessionsChapter,
  refusalsChapter,
  warmChapter,
  auditChapter,
  networkChapter,
  programsChapter,
];

async function play(
  screen: Screen,
  report: Report,
  engine: UsableEngine | undefined,
  signal: AbortSignal,
): Promise<void> {
  const chapters = engine === undefined ? [withoutEngineChapter, networkChapter, programsChapter] : CHAPTERS;
  let folder = '';
  const pids: number[] = [];
  let stage: Stage | undefined;
  const owned = { engine };
  try {
    screen.chapter('A controller and an agent, each a process of its own');
    if (owned.engine !== undefined) {
      const ready = owned.engine;
      await report.step('offline image', 'made', async () => {
        await loadDemoImage(ready);
        return 'made';
      });
    }
    await report.step('controller', 'ready', async () => {
      stage = await Stage.open(screen, engine, signal);
      folder = stage.fleet.folder;
      pids.push(stage.fleet.controller.process.pid!);
      screen.say(`listens on ${stage.fleet.url}`);
      return 'ready';
    });
    if (stage === undefined) return;
    const open: Stage = stage;
    await report.step('agent enrolled with a token over mTLS', 'online', async () => {
      const agent = await open.enrol(DEMO_AGENT);
      pids.push(agent.command.process.pid!);
      await open.longline(['agents', 'ls']);
      return 'online';
    });
    for (const chapter of chapters) {
      screen.chapter(chapter.title);
      await chapter.run(open, report);
    }
  } finally {
    screen.chapter('Clean-up');
    await cleanUp(report, stage, folder, pids);
  }
}

async function cleanUp(
  report: Report,
  stage: Stage | undefined,
  folder: string,
  pids: readonly number[],
): Promise<void> {
  const startedMs = performance.now();
  await stage?.[Symbol.asyncDispose]();
  const left: string[] = [];
  for (const id of (await stage?.removeLeftContainers()) ?? []) left.push(`container ${id.slice(0, 12)}, now removed`);
  for (const pid of pids) if (isAlive(pid)) left.push(`process ${pid}`);
  if (folder !== '' && existsSync(folder)) left.push(folder);
  const got = left.length === 0 ? 'nothing' : left.join(', ');
  report.rows.push({
    step: 'left behind',
    expected: 'nothing',
    got,
    durationMs: performance.now() - startedMs,
    ok: left.length === 0,
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function main(): Promise<number> {
  const screen = new Screen();
  const interruption = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => interruption.abort(new Error(`interrupted by ${name}`)));
  }
  const { signal } = interruption;
  const report = new Report(screen, signal);
  const found = await findEngine();
  const engine = 'missing' in found ? undefined : found;
  if ('missing' in found) {
    screen.say(`No container engine answers, and none can be started: ${found.missing}.`);
    screen.say('To see jobs run: `sudo npm run demo`, or give this user a Docker socket with DOCKER_HOST=unix://….');
  } else
    screen.say(
      `Container engine: ${found.isPrivate ? 'a private one, which ends with the demo' : "the machine's own"}.`,
    );
  try {
    await play(screen, report, engine, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    screen.say((signal.reason as Error).message);
  } finally {
    await engine?.[Symbol.asyncDispose]();
  }
  report.print();
  if (signal.aborted) return 130;
  return report.ok ? 0 : 1;
}

process.exitCode = await main();

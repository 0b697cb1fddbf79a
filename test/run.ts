// `npm test`: runs test files (all, or those below the paths given) with node:test and ends with its summary.
// Two files run at once, one in a process each, but never two that would meet on the host. A file that doesn't end is killed;
// a file without tests fails. LONGLINE_NO_SKIP=1 turns every skip into a failure: CI must not pass by not testing.
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { PassThrough } from 'node:stream';
import { run } from 'node:test';
import { spec, type TestEvent } from 'node:test/reporters';
import { parseArgs } from 'node:util';
import { findTestFiles, Schedule, type TestFile } from './runner/schedule.ts';
import { judgeFile, noTotals, type Totals } from './runner/verdict.ts';

const HELP = `usage: npm test -- [options] [file or folder]…
  --concurrency N      files at once (default 2)
  --file-limit N       seconds after which a file is killed (default 600)
  --test-limit N       seconds after which a test fails (default 180)
  --list               only say what would run
  --root FOLDER        where to look (default: this repository)
`;

interface Limits {
  readonly fileMs: number;
  readonly testMs: number;
}

async function runFile(root: string, file: TestFile, limits: Limits, interrupted: AbortSignal): Promise<TestEvent[]> {
  const watchdog = new AbortController();
  const tooLong = new Error(`${file.path} did not end within ${limits.fileMs / 1000} s and was killed`);
  const timer = setTimeout(() => watchdog.abort(tooLong), limits.fileMs);
  const interrupt = () => watchdog.abort(new Error('interrupted'));
  interrupted.addEventListener('abort', interrupt, { once: true });
  if (interrupted.aborted) interrupt();
  const events: TestEvent[] = [];
  try {
    const stream = run({
      files: [resolve(root, file.path)],
      cwd: root,
      concurrency: 1,
      timeout: limits.testMs,
      signal: watchdog.signal,
    });
    for await (const event of stream) events.push(event as TestEvent);
  } finally {
    clearTimeout(timer);
    interrupted.removeEventListener('abort', interrupt);
  }
  return events;
}

interface Outcome {
  readonly totals: Totals;
  readonly failedFiles: readonly string[];
  readonly slowest: readonly { readonly path: string; readonly ms: number }[];
}

async function runAll(
  root: string,
  files: readonly TestFile[],
  options: { readonly concurrency: number; readonly limits: Limits; readonly noSkip: boolean },
  output: PassThrough,
  interrupted: AbortSignal,
): Promise<Outcome> {
  const totals = noTotals();
  const failedFiles: string[] = [];
  const durations: { path: string; ms: number }[] = [];
  const schedule = new Schedule(files);
  const worker = async () => {
    while (!interrupted.aborted) {
      const file = await schedule.take();
      if (file === undefined) return;
      const startedMs = performance.now();
      const reported = await runFile(root, file, options.limits, interrupted);
      schedule.done(file);
      durations.push({ path: file.path, ms: performance.now() - startedMs });
      const verdict = judgeFile(resolve(root, file.path), reported, options.noSkip);
      for (const key of Object.keys(totals) as (keyof Totals)[]) totals[key] += verdict.totals[key];
      if (!verdict.ok) failedFiles.push(file.path);
      // A whole file at once, so that files which ran side by side read as if one after the other.
      for (const event of verdict.events) output.write(event);
    }
  };
  await Promise.all(Array.from({ length: options.concurrency }, worker));
  const slowest = durations.sort((a, b) => b.ms - a.ms).slice(0, 5);
  return { totals, failedFiles, slowest };
}

function summarise(output: PassThrough, outcome: Outcome, durationMs: number): void {
  const say = (message: string) =>
    output.write({ type: 'test:diagnostic', data: { nesting: 0, message, level: 'info' } });
  for (const { path, ms } of outcome.slowest) say(`slowest: ${path} ${(ms / 1000).toFixed(1)} s`);
  for (const [name, count] of Object.entries(outcome.totals)) say(`${name} ${count}`);
  say(`duration_ms ${durationMs.toFixed(3)}`);
}

function readCount(name: string, text: string): number {
  const value = Number(text);
  if (!(Number.isFinite(value) && value > 0)) throw new Error(`--${name} takes a number above 0, not '${text}'`);
  return value;
}

function readArguments(args: readonly string[]) {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      concurrency: { type: 'string', default: String(Math.min(2, availableParallelism())) },
      'file-limit': { type: 'string', default: '600' },
      'test-limit': { type: 'string', default: '180' },
      root: { type: 'string', default: dirname(import.meta.dirname) },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  return {
    ...values,
    places: positionals.length > 0 ? positionals : ['test'],
    concurrency: Math.ceil(readCount('concurrency', values.concurrency)),
    limits: {
      fileMs: readCount('file-limit', values['file-limit']) * 1000,
      testMs: readCount('test-limit', values['test-limit']) * 1000,
    },
  };
}

async function main(args: readonly string[]): Promise<number> {
  const startedMs = performance.now();
  const options = readArguments(args);
  if (options.help) return process.stdout.write(HELP) ? 0 : 0;
  const root = resolve(options.root);
  const files = await findTestFiles(root, options.places);
  if (options.list) {
    for (const { path, takes } of files) process.stdout.write(`${(takes.join('+') || 'plain').padEnd(10)} ${path}\n`);
    return 0;
  }
  if (files.length === 0) throw new Error(`no test file below ${options.places.join(', ')}`);
  // Kept where the launcher keeps it: every test file, and every command that one starts, would compile the same code again.
  process.env['NODE_COMPILE_CACHE'] ??= join(dirname(import.meta.dirname), 'node_modules/.cache/longline');
  const interruption = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interruption.abort());
  const output = new PassThrough({ objectMode: true });
  const reporter = output.pipe(new spec());
  reporter.pipe(process.stdout, { end: false });
  const noSkip = process.env['LONGLINE_NO_SKIP'] === '1';
  const outcome = await runAll(root, files, { ...options, noSkip }, output, interruption.signal);
  summarise(output, outcome, performance.now() - startedMs);
  const printed = new Promise((done) => reporter.once('end', done));
  output.end();
  await printed;
  if (interruption.signal.aborted) return 130;
  return outcome.failedFiles.length === 0 && outcome.totals.tests > 0 ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`test: ${(error as Error).message}\n`);
  process.exitCode = 2;
}

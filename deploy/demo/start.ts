// `npm start`: a controller and an agent until Ctrl-C. Their data and logs are kept in .longline/ of this checkout, so that a
// second start goes on where the first ended. Uses the machine's container engine, or a private one while it is up. Ends with
// code 1, and the end of the log, if one of them ends by itself.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { firstJsonLine, runCommand } from '../../test/fixtures/command.ts';
import { DEMO_IMAGE, findEngine, loadDemoImage, type UsableEngine } from '../dev/engine.ts';
import { Screen } from './screen.ts';
import { SANDBOX_ARGS } from './stage.ts';

const AGENT = 'local';
const ROOT = dirname(dirname(import.meta.dirname));
const FOLDER = join(ROOT, '.longline');
const READY_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 20_000;

/** A `longline …` that runs until it is stopped; its log goes to a file. */
class Service implements AsyncDisposable {
  readonly process: ChildProcess;
  readonly ended: Promise<unknown>;
  readonly #name: string;
  readonly #logPath: string;

  constructor(name: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.#name = name;
    this.#logPath = join(FOLDER, `${name}.log`);
    const log = openSync(this.#logPath, 'a', 0o600);
    // Out of the terminal's process group: Ctrl-C reaches only this process, which then ends them in order.
    const options = { env, detached: true, stdio: ['ignore', 'pipe', log] as ['ignore', 'pipe', number] };
    // The kernel ends it too if this process is killed.
    const guard = existsSync('/usr/bin/setpriv') ? ['/usr/bin/setpriv', '--pdeathsig', 'TERM'] : [];
    const [program, ...argv] = [...guard, join(ROOT, 'deploy/bin/longline'), name, ...args];
    this.process = spawn(program!, argv, options);
    closeSync(log);
    this.ended = once(this.process, 'exit');
  }

  failure(): string {
    const tail = readFileSync(this.#logPath, 'utf8').trimEnd().split('\n').slice(-5).join('\n');
    return `the ${this.#name} ended with ${this.process.exitCode ?? this.process.signalCode}; the end of ${this.#logPath}:\n${tail}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill('SIGTERM');
    const late = setTimeout(() => this.process.kill('SIGKILL'), STOP_LIMIT_MS);
    await this.ended;
    clearTimeout(late);
  }
}

/** The first of several to happen, or an error after the limit. */
async function within<T>(what: string, limitMs: number, service: Service, wanted: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`${what}: not within ${limitMs / 1000} s`)), limitMs);
  const died = service.ended.then(() => {
    throw new Error(service.failure());
  });
  return await Promise.race([wanted, died, late.promise]).finally(() => clearTimeout(timer));
}

async function openEngine(screen: Screen): Promise<UsableEngine | undefined> {
  const found = await findEngine();
  if ('missing' in found) {
    screen.say(`No container engine: ${found.missing}. The agent takes no jobs.`);
    return undefined;
  }
  screen.say(
    `Engine:     ${found.isPrivate ? 'a private one, which ends with this' : "the machine's own"}, ${found.host}`,
  );
  await loadDemoImage(found);
  return found;
}

function explain(screen: Screen, url: string, context: string, takesJobs: boolean): void {
  screen.say(`Controller: ${url}`);
  screen.say(`Context:    ${context}`);
  screen.say(`Logs:       ${join(FOLDER, '*.log')}`);
  screen.line('\n  In another terminal:\n');
  screen.line(`    export LONGLINE_CONTEXT=${context}`);
  screen.line('    npm run -s longline -- agents ls');
  if (takesJobs) {
    screen.line(`    npm run -s longline -- job run --agent ${AGENT} --image ${DEMO_IMAGE} -- echo hello`);
    screen.line(
      `    npm run -s longline -- job run --agent ${AGENT} --shell 'for i in 1 2 3; do echo $i; sleep 1; done'`,
    );
  }
  screen.line('\n  Ctrl-C ends both.');
}

async function serve(screen: Screen, engine: UsableEngine | undefined, stop: Promise<void>): Promise<void> {
  const env = { PATH: process.env['PATH'], HOME: FOLDER, NO_COLOR: '1' };
  const controllerArgs = ['--data-dir', join(FOLDER, 'controller'), '--listen', '127.0.0.1:0'];
  await using controller = new Service('controller', controllerArgs, env);
  const { url, context } = await within(
    'controller ready',
    READY_LIMIT_MS,
    controller,
    firstJsonLine<{ url: string; context: string }>(controller.process),
  );
  const made = await runCommand(['token', 'create', '--json'], { ...env, LONGLINE_CONTEXT: context });
  const { token } = made.json<{ token: string }>();
  const host = engine?.host ?? `unix://${FOLDER}/no-engine.sock`;
  await using agent = new Service(
    'agent',
    [
      ...['--controller', url, '--data-dir', join(FOLDER, 'agent'), '--agent-id', AGENT],
      ...['--docker-host', host, ...SANDBOX_ARGS],
    ],
    // Not as an argument: those can be read by everybody on the machine.
    { ...env, LONGLINE_TOKEN: token, LONGLINE_HTTP_PORT: '0' },
  );
  explain(screen, url, context, engine !== undefined);
  const died = [controller, agent].map(async (service) => {
    await service.ended;
    throw new Error(service.failure());
  });
  await Promise.race([stop, ...died]);
  screen.line('\n  Stopping.');
}

async function main(): Promise<number> {
  const screen = new Screen();
  const stop = Promise.withResolvers<void>();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stop.resolve());
  await mkdir(FOLDER, { recursive: true, mode: 0o700 });
  const engine = await openEngine(screen);
  try {
    await serve(screen, engine, stop.promise);
    return 0;
  } catch (error) {
    screen.line((error as Error).message);
    return 1;
  } finally {
    await engine?.[Symbol.asyncDispose]();
  }
}

process.exitCode = await main();

// What every chapter of the demo plays on: a container engine (the machine's, or a private one that ends with the demo), the
// offline image, a real controller and real agents as processes of their own in temporary folders. Disposing it ends and
// removes all of that, and says if anything of ours was left.
import { setTimeout as delay } from 'node:timers/promises';
import { type CommandOutcome, RunningCommand } from '../../test/fixtures/command.ts';
import { call, type ListedContainer, listContainers } from '../../test/fixtures/engine-query.ts';
import { type Fleet, startFleet, type TestAgent } from '../../test/fixtures/fleet.ts';
import { DEMO_IMAGE, type UsableEngine } from '../dev/engine.ts';
import type { Screen } from './screen.ts';

/** Name of the agent that the chapters command. */
export const DEMO_AGENT = 'demo-host';

/** No command of the demo takes longer; one that does is killed, and its step fails. */
export const STEP_LIMIT_MS = 30_000;

/** After Ctrl-C, for a command to end by itself. */
const INTERRUPT_GRACE_MS = 3000;

/** Settings of a demo agent beside those that all have. */
export const SANDBOX_ARGS: readonly string[] = ['--allowed-image', DEMO_IMAGE, '--jobs-default-image', DEMO_IMAGE];

/** The stage. Made with `Stage.open`. */
export class Stage implements AsyncDisposable {
  readonly screen: Screen;
  readonly fleet: Fleet;
  readonly engine: UsableEngine | undefined;
  readonly #instances: string[] = [];
  readonly #agents = new Map<string, TestAgent>();
  readonly #signal: AbortSignal;

  constructor(screen: Screen, fleet: Fleet, engine: UsableEngine | undefined, signal: AbortSignal) {
    this.screen = screen;
    this.fleet = fleet;
    this.engine = engine;
    this.#signal = signal;
  }

  /** Starts a controller. */
  static async open(screen: Screen, engine: UsableEngine | undefined, signal: AbortSignal): Promise<Stage> {
    const fleet = await startFleet({ launcher: true, ...(engine === undefined ? {} : { dockerHost: engine.host }) });
    return new Stage(screen, fleet, engine, signal);
  }

  /** Enrols an agent and waits until it is online. */
  async enrol(id: string, args: readonly string[] = []): Promise<TestAgent> {
    const agent = await this.fleet.enrolled(id, [...SANDBOX_ARGS, ...args]);
    const view = (await this.fleet.longline('agents', 'get', id, '--json')).json<{ instance_id: string }>();
    this.#instances.push(view.instance_id);
    this.#agents.set(id, agent);
    return agent;
  }

  /** Has an agent read its policy and trust files anew; resolves once it did. */
  async reload(id: string): Promise<void> {
    const { command } = this.#agents.get(id)!;
    const lines = () => command.stderr.split('policy and trust were read anew').length;
    const before = lines();
    this.screen.say(`(kill -HUP, so that ${id} reads its trust file anew)`);
    command.process.kill('SIGHUP');
    await command.until('files read anew', () => (lines() > before ? true : undefined), 10_000);
  }

  /** Runs `longline …` as a person would, showing the command and its output as it comes. */
  async longline(args: readonly string[], options: { input?: string; quiet?: boolean } = {}): Promise<CommandOutcome> {
    const command = this.start(args, options.quiet);
    await using _running = command;
    command.process.stdin!.end(options.input ?? '');
    const outcome = await command.outcome(STEP_LIMIT_MS);
    if (outcome.signal === 'SIGKILL') throw new Error(`killed: it did not end within ${STEP_LIMIT_MS / 1000} s`);
    return outcome;
  }

  /** Like `longline`, but gives the running command. The caller disposes it. */
  start(args: readonly string[], quiet = false): RunningCommand {
    this.#signal.throwIfAborted();
    this.screen.command(args);
    const command = new RunningCommand(args, this.fleet.env);
    // Ctrl-C reached it as well. It waits for its job to end, which without the controller takes too long here.
    const giveUp = () => setTimeout(() => command.process.kill('SIGKILL'), INTERRUPT_GRACE_MS);
    this.#signal.addEventListener('abort', giveUp, { once: true });
    command.process.once('exit', () => this.#signal.removeEventListener('abort', giveUp));
    if (!quiet) {
      command.process.stdout!.on('data', (data: Buffer) => this.screen.output(data));
      command.process.stderr!.on('data', (data: Buffer) => this.screen.output(data));
    }
    return command;
  }

  /** Containers of our agents that the engine has, in any state. */
  async containers(): Promise<readonly ListedContainer[]> {
    if (this.engine === undefined) return [];
    const all = await listContainers(this.engine.socketPath);
    const owners = ['longline', 'longline.sessions'];
    return all.filter(({ Labels }) => owners.some((label) => this.#instances.includes(Labels[label] ?? '')));
  }

  /** Ends what a broken step may have left: an agent that stops leaves its jobs and sessions alone. */
  async #cancelAll(): Promise<void> {
    const listed = await this.fleet.longline('job', 'ls', '--json');
    if (listed.code !== 0) return;
    const ended = ['succeeded', 'failed', 'cancelled', 'timed_out', 'rejected', 'indeterminate'];
    for (const { id, state } of listed.json<readonly { id: string; state: string }[]>()) {
      if (!ended.includes(state)) await this.fleet.longline('job', 'cancel', id);
    }
    const sessions = await this.fleet.longline('session', 'ls', '--json');
    for (const { id } of sessions.code === 0 ? sessions.json<readonly { id: string }[]>() : []) {
      await this.fleet.longline('session', 'stop', id, '--remove-volumes');
    }
    const endsAt = performance.now() + STEP_LIMIT_MS;
    const jobContainers = async () =>
      (await this.containers()).filter(({ Labels }) => Labels['longline.role'] !== 'warm');
    while ((await jobContainers()).length > 0 && performance.now() < endsAt) await delay(100);
  }

  /** Ends controller and agents and removes their folders. The engine is its owner's to dispose. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cancelAll();
    await this.fleet[Symbol.asyncDispose]();
  }

  /** Removes containers of ours that should not be there any more; gives their ids. */
  async removeLeftContainers(): Promise<readonly string[]> {
    const left = (await this.containers()).map(({ Id }) => Id);
    for (const id of left) await call(this.engine!.socketPath, 'DELETE', `/containers/${id}?force=true&v=true`);
    return left;
  }
}

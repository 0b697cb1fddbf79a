// Processes inside a session's container: commands with their own streams, and the main process.

import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import type { SessionProcesses } from '../../capabilities/sessions/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import type { SessionCommand, SessionTerminal } from '../../core/session-access.ts';
import { SocketAttachment } from './attachment.ts';
import type { DaemonWatch } from './daemon-watch.ts';
import type { EngineClient } from './engine-client.ts';
import type { DockerSessionContainers } from './session-containers.ts';

const POLL_MS = 20;
const EXIT_LIMIT_MS = 15_000;
const PID_LIMIT_MS = 15_000;

interface RawExec {
  readonly Running?: boolean;
  readonly ExitCode?: number | null;
  readonly Pid?: number;
}

/** As SessionProcesses promises. */
export class DockerSessionProcesses implements SessionProcesses {
  readonly #client: EngineClient;
  readonly #watch: DaemonWatch;
  readonly #containers: DockerSessionContainers;
  readonly #local: boolean;

  constructor(client: EngineClient, watch: DaemonWatch, containers: DockerSessionContainers, local: boolean) {
    this.#client = client;
    this.#watch = watch;
    this.#containers = containers;
    this.#local = local;
  }

  async execute(containerId: string, command: SessionCommand, signal?: AbortSignal): Promise<SessionTerminal> {
    const what = `run ${JSON.stringify(command.argv[0] ?? '')} in container ${containerId.slice(0, 12)}`;
    const limitMs = this.#client.limitMs;
    const life = await this.#watch.life(signal);
    const body = execBody(command);
    const path = `/containers/${containerId}/exec`;
    const made = await this.#client.json<{ readonly Id: string }>(
      { method: 'POST', path, body, what, limitMs },
      signal,
    );
    if (made === undefined) throw new LonglineError('internal', `${what}: the container engine gave no id`);
    const start = { Detach: false, Tty: command.terminal };
    const socket = await this.#client.upgrade({ path: `/exec/${made.Id}/start`, body: start, what, limitMs }, signal);
    const attachment = new SocketAttachment(socket, true, {
      where: this.#client.where,
      raw: command.terminal,
      confirmEnd: () => this.#watch.confirm(life),
      closed: () => undefined,
    });
    const size = command.terminal ? command.size : undefined;
    const terminal = new ExecTerminal(
      this.#client,
      { id: made.Id, containerId, local: this.#local },
      attachment,
      command.terminal,
    );
    if (size !== undefined) await terminal.resize(size.columns, size.rows).catch(() => undefined);
    return terminal;
  }

  async attachMain(
    containerId: string,
    options: { readonly terminal: boolean; readonly withInput: boolean },
    signal?: AbortSignal,
  ): Promise<SessionTerminal> {
    const attachment = await this.#containers.attach(containerId, options, signal);
    return {
      output: attachment.output,
      write: (data) => attachment.writeInput(data),
      end: () => attachment.endInput(),
      resize: async (columns, rows) => {
        if (options.terminal) await resize(this.#client, `/containers/${containerId}`, columns, rows);
      },
      signal: async (name) => {
        throw new LonglineError('unsupported', `${name}: signals go to commands, not to the main process of a session`);
      },
      exitCode: async () => (await this.#containers.inspectContainer(containerId))?.exitCode,
      destroy: () => attachment.destroy(),
    };
  }
}

/** A command in a container. */
interface Exec {
  readonly id: string;
  readonly containerId: string;
  /** The engine is on this host. */
  readonly local: boolean;
}

class ExecTerminal implements SessionTerminal {
  readonly output: SessionTerminal['output'];
  readonly #client: EngineClient;
  readonly #exec: Exec;
  readonly #attachment: SocketAttachment;
  readonly #terminal: boolean;

  constructor(client: EngineClient, exec: Exec, attachment: SocketAttachment, terminal: boolean) {
    this.#client = client;
    this.#exec = exec;
    this.#attachment = attachment;
    this.#terminal = terminal;
    this.output = attachment.output;
  }

  async write(data: Uint8Array): Promise<void> {
    await this.#attachment.writeInput(data);
  }

  async end(): Promise<void> {
    await this.#attachment.endInput();
  }

  async resize(columns: number, rows: number): Promise<void> {
    if (this.#terminal) await resize(this.#client, `/exec/${this.#exec.id}`, columns, rows);
  }

  async signal(name: string): Promise<void> {
    if (!(name in constants.signals)) throw new LonglineError('invalid', `${name} is not a signal; "SIGINT" is one`);
    const raw = await this.#withPid();
    if (raw?.Running !== true) return;
    const pid = raw.Pid ?? 0;
    // The API of engines has no call for this. The number means nothing on another host, or where the agent is in a
    // container itself and doesn't see the processes of others.
    if (!this.#exec.local || pid <= 1 || !(await runsIn(pid, this.#exec.containerId))) {
      throw new LonglineError('unsupported', `${name}: the agent can't see the process ${pid}, so it can't signal it`);
    }
    try {
      process.kill(pid, name as NodeJS.Signals);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  async exitCode(): Promise<number | undefined> {
    // The output may end a moment before the engine has noticed that the process did.
    for (const endsAt = performance.now() + EXIT_LIMIT_MS; ; ) {
      const raw = await this.#inspect();
      if (raw === undefined) return undefined;
      if (raw.Running === false) return raw.ExitCode ?? undefined;
      if (performance.now() > endsAt) return undefined;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  destroy(): void {
    this.#attachment.destroy();
  }

  /** Docker says that it runs a moment before it knows its process. */
  async #withPid(): Promise<RawExec | undefined> {
    for (const endsAt = performance.now() + PID_LIMIT_MS; ; ) {
      const raw = await this.#inspect();
      if (raw?.Running !== true || (raw.Pid ?? 0) > 0 || performance.now() > endsAt) return raw;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async #inspect(): Promise<RawExec | undefined> {
    return await this.#client.found<RawExec>('look at a command', `/exec/${this.#exec.id}/json`);
  }
}

/** True if the process is in the container, as its control groups tell. */
async function runsIn(pid: number, containerId: string): Promise<boolean> {
  const groups = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '');
  return groups.includes(containerId);
}

function execBody(command: SessionCommand): object {
  return {
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    Tty: command.terminal,
    Cmd: command.argv,
    Env: Object.entries(command.env).map(([name, value]) => `${name}=${value}`),
    ...(command.user === '' ? {} : { User: command.user }),
    ...(command.workingDir === '' ? {} : { WorkingDir: command.workingDir }),
  };
}

async function resize(client: EngineClient, path: string, columns: number, rows: number): Promise<void> {
  const query = { w: String(columns), h: String(rows) };
  const what = `resize a terminal to ${columns}x${rows}`;
  await client.json({ method: 'POST', path: `${path}/resize`, query, what, limitMs: client.limitMs });
}

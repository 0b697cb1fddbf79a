// wireguard-go on Windows, whose adapters are Wintun's: it needs wintun.dll beside it, and an administrator. A process is known
// by its number and the moment of its creation. Tested to the commands and the name of the pipe, not on Windows.
import { existsSync } from 'node:fs';
import { join } from 'node:path/win32';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError } from '../../core/errors.ts';
import type { DaemonSystem } from './daemon-interfaces.ts';
import type { ProcessIdentity } from './daemon-process.ts';
import { type DetachedProcesses, until } from './host-processes.ts';
import { uapiPath } from './uapi-device.ts';

const FOLDER = 'C:\\Program Files\\Longline';
const WHERE = "Name = 'wireguard-go.exe'";

/** What a host's daemons are handled with. */
export interface WindowsParts {
  readonly run: RunCommand;
  readonly processes: DetachedProcesses;
  readonly exists?: (path: string) => boolean;
}

/** Daemons of a Windows host. */
export class WindowsDaemons implements DaemonSystem {
  readonly #parts: WindowsParts;

  constructor(parts: WindowsParts) {
    this.#parts = parts;
  }

  async missing(): Promise<string | undefined> {
    const exists = this.#parts.exists ?? existsSync;
    const absent = ['wireguard-go.exe', 'wintun.dll'].filter((file) => !exists(join(FOLDER, file)));
    return absent.length === 0 ? undefined : `${FOLDER} lacks ${absent.join(' and ')} (see https://www.wintun.net)`;
  }

  async start(name: string, signal?: AbortSignal): Promise<ProcessIdentity> {
    const pid = await this.#parts.processes.spawn({ argv: [join(FOLDER, 'wireguard-go.exe'), name], environment: {} });
    const [created = ''] = await this.#query(`${WHERE} AND ProcessId = ${pid}`, 'CreationDate.ToFileTimeUtc()', signal);
    return { pid, startTicks: created, bootId: '' };
  }

  async isRunning({ pid, startTicks }: ProcessIdentity, signal?: AbortSignal): Promise<boolean> {
    const [created] = await this.#query(`${WHERE} AND ProcessId = ${pid}`, 'CreationDate.ToFileTimeUtc()', signal);
    return created !== undefined && created === startTicks;
  }

  async end(daemon: ProcessIdentity, signal?: AbortSignal): Promise<void> {
    if (!(await this.isRunning(daemon, signal))) return;
    await this.#kill(daemon.pid, signal);
    await until(async () => !(await this.isRunning(daemon, signal)), `process ${daemon.pid} doesn't end`);
  }

  /** Two can't serve a name, and it was free when our record was made: whoever was started for it is ours. */
  async endUnrecorded(name: string, signal?: AbortSignal): Promise<void> {
    const quoted = name.replaceAll('_', '[_]');
    const pids = await this.#query(`${WHERE} AND CommandLine LIKE '%wireguard-go.exe% ${quoted}'`, 'ProcessId', signal);
    for (const pid of pids) await this.#kill(Number(pid), signal);
  }

  async realName(name: string): Promise<string> {
    return name;
  }

  uapiPath(realName: string): string {
    return uapiPath(realName, 'win32');
  }

  async #kill(pid: number, signal: AbortSignal | undefined): Promise<void> {
    await this.#parts.run({ argv: ['taskkill', '/F', '/PID', String(pid)] }, signal);
  }

  /** A property of each process that a condition holds for, a line each. */
  async #query(condition: string, property: string, signal: AbortSignal | undefined): Promise<readonly string[]> {
    const script = `Get-CimInstance Win32_Process -Filter "${condition}" | ForEach-Object { $_.${property} }`;
    const argv = ['powershell', '-NoProfile', '-NonInteractive', '-Command', script] as const;
    const { code, stderr, stdout } = await this.#parts.run({ argv }, signal);
    if (code !== 0) throw new LonglineError('unavailable', `processes can't be listed: ${stderr.trim().slice(0, 300)}`);
    return stdout.split(/\s+/).filter(Boolean);
  }
}

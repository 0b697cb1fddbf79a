// wireguard-go on macOS. Interfaces are called utunN there, and the kernel picks the number: the daemon writes the name into a
// file that we name. Tested to the commands, environment and files, not on a Mac.
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunCommand } from '../../core/command.ts';
import type { DaemonSystem } from './daemon-interfaces.ts';
import type { ProcessIdentity } from './daemon-process.ts';
import { findProgram } from './daemon-program.ts';
import { type PosixProcesses, psIdentity, until } from './host-processes.ts';
import { uapiPath } from './uapi-device.ts';

const FOLDERS = ['/opt/homebrew/bin', '/usr/local/bin', '/usr/local/sbin', '/opt/local/bin'];

/** What a host's daemons are handled with. */
export interface MacosParts {
  readonly run: RunCommand;
  readonly processes: PosixProcesses;
  /** A folder of our own, where daemons write the names of their interfaces. */
  readonly folder: string;
  readonly folders?: readonly string[];
}

/** Daemons of a Mac. */
export class MacosDaemons implements DaemonSystem {
  readonly #parts: MacosParts;

  constructor(parts: MacosParts) {
    this.#parts = parts;
  }

  async missing(): Promise<string | undefined> {
    const program = await this.#program();
    return program === undefined
      ? 'there is no program wireguard-go; install it (brew install wireguard-go)'
      : undefined;
  }

  async start(name: string, signal?: AbortSignal): Promise<ProcessIdentity> {
    const nameFile = this.#nameFile(name);
    // Whatever an earlier daemon wrote is no name of this one's.
    await rm(nameFile, { force: true });
    const pid = await this.#parts.processes.spawn({
      argv: [(await this.#program()) ?? 'wireguard-go', '-f', 'utun'],
      environment: { LOG_LEVEL: 'error', WG_TUN_NAME_FILE: nameFile },
    });
    const identity = await psIdentity(this.#parts.run, pid, signal);
    // One that has ended already is told from a later process by a start that there never was.
    return identity ?? { pid, startTicks: '', bootId: '' };
  }

  async isRunning(daemon: ProcessIdentity, signal?: AbortSignal): Promise<boolean> {
    const now = await psIdentity(this.#parts.run, daemon.pid, signal);
    return now?.startTicks === daemon.startTicks;
  }

  async end(daemon: ProcessIdentity, signal?: AbortSignal): Promise<void> {
    if (!(await this.isRunning(daemon, signal))) return;
    this.#parts.processes.end(daemon.pid);
    await until(async () => !(await this.isRunning(daemon, signal)), `process ${daemon.pid} doesn't end`);
  }

  /** A daemon ends when its socket is removed, and the name of that is in the file that only it was told of. */
  async endUnrecorded(name: string): Promise<void> {
    const realName = await this.realName(name);
    if (realName !== undefined) await rm(uapiPath(realName, 'darwin'), { force: true });
  }

  async realName(name: string): Promise<string | undefined> {
    const text = await readFile(this.#nameFile(name), 'utf8').catch(() => '');
    return /^(utun\d{1,5})\n$/.exec(text)?.[1];
  }

  uapiPath(realName: string): string {
    return uapiPath(realName, 'darwin');
  }

  async #program(): Promise<string | undefined> {
    return await findProgram('wireguard-go', this.#parts.folders ?? FOLDERS);
  }

  #nameFile(name: string): string {
    return join(this.#parts.folder, `${name}.utun`);
  }
}

// WireGuard in user space on Linux: a TUN device that stays, a socket, and a daemon that outlives us and runs with nothing but
// what it needs. The device stays when a daemon ends, so that addresses and routes outlive it and no packet takes another way
// meanwhile. Every effect goes through a DaemonHost; between any two of them we may be killed.
import { closeSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { InterfaceRequest } from '../../capabilities/network/ports.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Backend } from '../../core/network/network-spec.ts';
import type { SaveRecord, WireguardBackend } from './backend.ts';
import { keepTun, listenAt, openTun } from './daemon-descriptors.ts';
import { type DaemonPlan, mtuFilter } from './daemon-plan.ts';
import { endProcess, isRunning, lastWords, launch, type WaitingDaemon } from './daemon-process.ts';
import { type DaemonProgram, findProgram } from './daemon-program.ts';
import type { InterfaceRecord } from './interface-record.ts';
import { libc } from './libc.ts';
import type { LinuxLinks } from './linux-links.ts';
import { UapiDevice, uapiPath } from './uapi-device.ts';
import { freeSocket, removeSilent } from './uapi-socket.ts';

const START_LIMIT_MS = 20_000;
const POLL_MS = 10;

/** What is done to the host, one effect each. */
export const linuxDaemonHost = { openTun, keepTun, listenAt, launch, endProcess, freeSocket, removeSilent };
export type DaemonHost = typeof linuxDaemonHost;

/** What a backend is made of. */
export interface UserSpaceParts {
  readonly program: DaemonProgram;
  readonly links: LinuxLinks;
  /** What our links carry. */
  readonly label: string;
  /** Where daemons write their logs, at most 2 MiB each. */
  readonly logFolder: string;
  /** Who daemons run as that need no more; undefined: as we do. */
  readonly user: DaemonPlan['user'];
  readonly host: DaemonHost;
}

/** wireguard-go or boringtun. */
export class UserSpaceBackend implements WireguardBackend {
  readonly kind: Backend;
  readonly #parts: UserSpaceParts;

  constructor(kind: Backend, parts: UserSpaceParts) {
    this.kind = kind;
    this.#parts = parts;
  }

  async missing(): Promise<string | undefined> {
    const { folders, name } = this.#parts.program;
    if ((await findProgram(name, folders)) === undefined) return `there is no program ${name} on this host; install it`;
    if (!existsSync('/dev/net/tun'))
      return 'there is no /dev/net/tun; run "modprobe tun", or give the container that device';
    try {
      libc();
    } catch (error) {
      return describeError(error);
    }
    return mtuFilter(process.arch) === undefined ? `daemons can't be confined on ${process.arch}` : undefined;
  }

  device(realName: string): UapiDevice {
    return new UapiDevice(uapiPath(realName));
  }

  async fault({ daemon, realName }: InterfaceRecord): Promise<string | undefined> {
    if (daemon === undefined) return 'its daemon was never started';
    if (!(await isRunning(daemon))) return `its daemon, process ${daemon.pid}, has ended`;
    return existsSync(uapiPath(realName)) ? undefined : `its socket ${uapiPath(realName)} was removed`;
  }

  async alive(realName: string, signal?: AbortSignal): Promise<void> {
    await this.device(realName).alive(signal);
  }

  shortOf({ daemon }: InterfaceRecord, request: InterfaceRequest): string | undefined {
    const needed = this.#parts.program.capabilities(request);
    const lacks = needed.filter((capability) => !daemon?.capabilities.includes(capability));
    return lacks.length === 0 ? undefined : `its daemon lacks capabilities ${lacks.join(', ')}`;
  }

  async make(request: InterfaceRequest, save: SaveRecord, signal?: AbortSignal): Promise<void> {
    try {
      await this.#make(request, save, signal);
    } catch (error) {
      if (error instanceof LonglineError) throw error;
      const why = `interface "${request.name}" can't be made: ${describeError(error)}`;
      throw new LonglineError('unavailable', why, { cause: error });
    }
  }

  async #make(request: InterfaceRequest, save: SaveRecord, signal: AbortSignal | undefined): Promise<void> {
    const { host, program, user } = this.#parts;
    const { name } = request;
    const path = await findProgram(program.name, program.folders);
    if (path === undefined) throw new LonglineError('unsupported', `there is no program ${program.name} on this host`);
    await host.freeSocket(uapiPath(name));
    const descriptors = [await this.#tun(request, path, signal)];
    try {
      if (program.takesDescriptors) descriptors.push(host.listenAt(uapiPath(name), user?.gid));
      else for (const fd of descriptors.splice(0)) closeSync(fd);
      const capabilities = program.capabilities(request);
      const logPath = this.#logPath(name);
      using daemon = await host.launch(program.plan(path, name, capabilities, user), descriptors, logPath);
      await save({ daemon: { ...daemon.identity, capabilities } });
      await daemon.go();
      await this.#answering(name, daemon, signal);
    } finally {
      for (const fd of descriptors) closeSync(fd);
    }
  }

  async halt({ daemon }: InterfaceRecord): Promise<void> {
    if (daemon !== undefined && (await isRunning(daemon))) await this.#parts.host.endProcess(daemon);
  }

  async clear(record: InterfaceRecord, signal?: AbortSignal): Promise<void> {
    const { host, label, links } = this.#parts;
    const { realName } = record;
    await this.halt(record);
    const link = await links.find(realName, signal);
    if (link?.label === label) await links.remove(realName, signal);
    await host.removeSilent(uapiPath(realName));
  }

  /** Opens the device. A new one carries our label before it stays. */
  async #tun({ mtu, name }: InterfaceRequest, path: string, signal: AbortSignal | undefined): Promise<number> {
    const { host, label, links, program } = this.#parts;
    const isKept = (await links.find(name, signal)) !== undefined;
    const fd = host.openTun(name, await program.format(path), isKept ? 'kept' : 'new');
    if (isKept) return fd;
    try {
      await links.label(name, label, mtu, signal);
      host.keepTun(fd);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  async #answering(name: string, daemon: WaitingDaemon, signal: AbortSignal | undefined): Promise<void> {
    const device = this.device(name);
    const endsAt = performance.now() + START_LIMIT_MS;
    for (;;) {
      const ended = daemon.ended();
      if (ended !== undefined) throw await this.#failed(name, ended);
      try {
        await device.alive(signal);
        return;
      } catch (error) {
        if (signal?.aborted === true) throw error;
        if (performance.now() > endsAt) throw await this.#failed(name, describeError(error));
        await delay(POLL_MS);
      }
    }
  }

  async #failed(name: string, what: string): Promise<LonglineError> {
    const said = await lastWords(this.#logPath(name));
    return new LonglineError(
      'unavailable',
      `${this.#parts.program.name} for "${name}" did not start: ${what}; ${said}`,
    );
  }

  #logPath(name: string): string {
    return join(this.#parts.logFolder, `${name}.log`);
  }
}

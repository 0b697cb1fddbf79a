// WireGuard interfaces where a daemon opens its device itself and keeps it as long as it runs: wireguard-go on macOS and Windows.
// An interface is ours if a record says so that was on disk before its daemon was started. What differs between the systems is
// behind DaemonSystem; both are tested to the commands and bytes that they would send, not on the systems themselves.
import { setTimeout as delay } from 'node:timers/promises';
import type {
  BackendStatus,
  InterfaceRequest,
  KnownInterface,
  OpenInterface,
  WireguardInterfaces,
} from '../../capabilities/network/ports.ts';
import type { StateStore } from '../../core/capability.ts';
import { type Clock, systemClock } from '../../core/clock.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { ProcessIdentity } from './daemon-process.ts';
import { type InterfaceRecord, InterfaceRecords } from './interface-record.ts';
import { NameLocks } from './name-locks.ts';
import { UapiDevice } from './uapi-device.ts';
import { socketState } from './uapi-socket.ts';

const START_LIMIT_MS = 20_000;
const POLL_MS = 50;
const WATCH_MS = 2_000;

/** What differs between systems. */
export interface DaemonSystem {
  /** Why wireguard-go can't be had, with the mend; undefined if it can. */
  missing(signal?: AbortSignal): Promise<string | undefined>;
  /** Starts a daemon that goes on without us. */
  start(name: string, signal?: AbortSignal): Promise<ProcessIdentity>;
  isRunning(daemon: ProcessIdentity, signal?: AbortSignal): Promise<boolean>;
  /** Resolves once it has ended; nothing happens if it had. */
  end(daemon: ProcessIdentity, signal?: AbortSignal): Promise<void>;
  /** Ends a daemon that we had begun to start before we were killed, and whose pid nobody wrote down. */
  endUnrecorded(name: string, signal?: AbortSignal): Promise<void>;
  /** As the system calls the interface that was asked for under this name; undefined while there is none. */
  realName(name: string): Promise<string | undefined>;
  /** Where the daemon of an interface listens. */
  uapiPath(realName: string): string;
}

/** What the interfaces of such a host are made with. */
export interface DaemonInterfacesParts {
  readonly system: DaemonSystem;
  readonly state: StateStore;
  readonly clock?: Clock;
}

/** The interfaces of a macOS or Windows host. Holds nothing open. */
export class DaemonInterfaces implements WireguardInterfaces {
  readonly #system: DaemonSystem;
  readonly #clock: Clock;
  readonly #records: InterfaceRecords;
  readonly #locks = new NameLocks();

  constructor({ clock, state, system }: DaemonInterfacesParts) {
    this.#system = system;
    this.#clock = clock ?? systemClock;
    this.#records = new InterfaceRecords(state);
  }

  async backends(signal?: AbortSignal): Promise<readonly BackendStatus[]> {
    return [{ kind: 'wireguard-go', missing: await this.#system.missing(signal) }];
  }

  async list(): Promise<readonly KnownInterface[]> {
    return (await this.#records.all()).map(({ foreign, kind, name, realName }) => ({ foreign, kind, name, realName }));
  }

  async open(request: InterfaceRequest, signal?: AbortSignal): Promise<OpenInterface> {
    return await this.#locks.run(request.name, async () => {
      const { backend, name } = request;
      if (backend !== 'auto' && backend !== 'wireguard-go') {
        throw new LonglineError(
          'unsupported',
          `"${name}" can be had only as wireguard-go on this system, not ${backend}`,
        );
      }
      const record = await this.#records.get(name);
      if (record?.foreign === false && (await this.#isWhole(record, signal))) return this.#opened(record, true);
      const path = this.#system.uapiPath(name);
      if (record?.foreign === false) await this.#clear(record, signal);
      else if ((await socketState(path)) === 'listening') return await this.#openForeign(request, path);
      return await this.#make(name, signal);
    });
  }

  async remove(name: string, signal?: AbortSignal): Promise<void> {
    await this.#locks.run(name, async () => {
      const record = await this.#records.get(name);
      if (record?.foreign === false) await this.#clear(record, signal);
      await this.#records.delete(name);
    });
  }

  async #make(name: string, signal: AbortSignal | undefined): Promise<OpenInterface> {
    const missing = await this.#system.missing(signal);
    if (missing !== undefined)
      throw new LonglineError('unsupported', `no WireGuard can be had for "${name}": ${missing}`);
    let record: InterfaceRecord = { name, realName: name, kind: 'wireguard-go', foreign: false, daemon: undefined };
    await this.#records.put(record);
    try {
      const daemon = { ...(await this.#system.start(name, signal)), capabilities: [] };
      record = { ...record, daemon };
      await this.#records.put(record);
      record = { ...record, realName: await this.#answering(name, daemon, signal) };
      await this.#records.put(record);
    } catch (error) {
      await this.#clear(record);
      await this.#records.delete(name);
      throw error;
    }
    return this.#opened(record, false);
  }

  /** Waits until the daemon has an interface and answers for it; gives its name. */
  async #answering(name: string, daemon: ProcessIdentity, signal: AbortSignal | undefined): Promise<string> {
    const endsAt = performance.now() + START_LIMIT_MS;
    let why = 'it has no interface';
    for (;;) {
      const realName = await this.#system.realName(name);
      if (realName !== undefined) {
        try {
          await new UapiDevice(this.#system.uapiPath(realName)).alive(signal);
          return realName;
        } catch (error) {
          if (signal?.aborted === true) throw error;
          why = describeError(error);
        }
      }
      const ended = !(await this.#system.isRunning(daemon, signal));
      if (ended || performance.now() > endsAt) {
        const what = ended ? 'it ended' : why;
        throw new LonglineError('unavailable', `wireguard-go for "${name}" did not start: ${what}`);
      }
      await delay(POLL_MS);
    }
  }

  async #isWhole({ daemon, realName }: InterfaceRecord, signal: AbortSignal | undefined): Promise<boolean> {
    if (daemon === undefined || !(await this.#system.isRunning(daemon, signal))) return false;
    return (await socketState(this.#system.uapiPath(realName))) === 'listening';
  }

  async #clear({ daemon, name }: InterfaceRecord, signal?: AbortSignal): Promise<void> {
    if (daemon === undefined) await this.#system.endUnrecorded(name, signal);
    else await this.#system.end(daemon, signal);
  }

  async #openForeign({ adoptForeign, name }: InterfaceRequest, path: string): Promise<OpenInterface> {
    if (!adoptForeign) {
      const mend = 'choose another name, or allow it to be adopted (adopt_interface)';
      throw new LonglineError('already_exists', `a WireGuard that this agent did not make listens at ${path}; ${mend}`);
    }
    const record = { name, realName: name, kind: 'wireguard-go', foreign: true, daemon: undefined } as const;
    await this.#records.put(record);
    return this.#opened(record, true);
  }

  #opened(record: InterfaceRecord, adopted: boolean): OpenInterface {
    const { foreign, kind, name, realName } = record;
    const device = new UapiDevice(this.#system.uapiPath(realName));
    return {
      adopted,
      device,
      foreign,
      kind,
      lost: async (signal) => await this.#watch(realName, signal),
      name,
      realName,
    };
  }

  async #watch(realName: string, signal: AbortSignal): Promise<string> {
    const path = this.#system.uapiPath(realName);
    while ((await socketState(path)) === 'listening') await this.#clock.sleep(WATCH_MS, signal);
    return `nobody listens at ${path} any more`;
  }
}

// Makes WireGuard interfaces on Linux, adopts those that are there, and takes them away. What is ours is known by a record that
// is on disk before anything is done, and by a label on the link; whatever carries neither is never changed. So an agent that is
// killed at any point finds its own again: it adopts what is whole, and mends or makes the rest. Knows nothing of peers or routes.
import { setTimeout as delay } from 'node:timers/promises';
import type {
  BackendStatus,
  InterfaceRequest,
  KnownInterface,
  OpenInterface,
  WireguardDevice,
  WireguardInterfaces,
} from '../../capabilities/network/ports.ts';
import type { StateStore } from '../../core/capability.ts';
import { type Clock, systemClock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Backend } from '../../core/network/network-spec.ts';
import type { WireguardBackend } from './backend.ts';
import { lacksNetAdmin } from './daemon-user.ts';
import { findForeign } from './foreign.ts';
import { type InterfaceRecord, InterfaceRecords } from './interface-record.ts';
import { isEarlyName } from './kernel.ts';
import type { FoundLink, LinuxLinks } from './linux-links.ts';
import { NameLocks } from './name-locks.ts';

const ENDING_MS = 5_000;
/** A look at a daemon costs next to nothing. */
const WATCH_DAEMON_MS = 500;
/** A look at a link takes a process. */
const WATCH_LINK_MS = 10_000;

/** What the interfaces of a host are made with. */
export interface LinuxInterfacesParts {
  /** In order of preference. */
  readonly backends: readonly WireguardBackend[];
  readonly links: LinuxLinks;
  readonly label: string;
  readonly state: StateStore;
  readonly clock?: Clock;
}

/** The interfaces of a Linux host. Holds nothing open. */
export class LinuxInterfaces implements WireguardInterfaces {
  readonly #parts: LinuxInterfacesParts;
  readonly #records: InterfaceRecords;
  readonly #locks = new NameLocks();

  constructor(parts: LinuxInterfacesParts) {
    this.#parts = parts;
    this.#records = new InterfaceRecords(parts.state);
  }

  async backends(signal?: AbortSignal): Promise<readonly BackendStatus[]> {
    const statuses: BackendStatus[] = [];
    const unprivileged = lacksNetAdmin();
    for (const backend of this.#parts.backends) {
      statuses.push({ kind: backend.kind, missing: unprivileged ?? (await backend.missing(signal)) });
    }
    return statuses;
  }

  async list(): Promise<readonly KnownInterface[]> {
    return (await this.#records.all()).map(({ foreign, kind, name, realName }) => ({ foreign, kind, name, realName }));
  }

  async open(request: InterfaceRequest, signal?: AbortSignal): Promise<OpenInterface> {
    return await this.#locks.run(request.name, async () => {
      const { name } = request;
      const link = await this.#parts.links.find(name, signal);
      const record = await this.#records.get(name);
      if (link !== undefined && link.label !== this.#parts.label) {
        return await this.#openForeign(request, link, record, signal);
      }
      const ours = record?.foreign === true ? undefined : record;
      const whole = link === undefined ? undefined : await this.#whole(request, ours, signal);
      if (whole !== undefined && (await this.#answers(whole, signal))) {
        return this.#opened(whole, this.#backend(whole.kind).device(name), true);
      }
      return await this.#make(request, link, ours, signal);
    });
  }

  async remove(name: string, signal?: AbortSignal): Promise<void> {
    await this.#locks.run(name, async () => {
      const record = await this.#records.get(name);
      if (record?.foreign === false) await this.#backend(record.kind).clear(record, signal);
      const link = await this.#parts.links.find(name, signal);
      if (link?.label === this.#parts.label) await this.#parts.links.remove(name, signal);
      if (link === undefined && record?.foreign === false) await this.#removeRenamed(signal);
      await this.#records.delete(name);
    });
  }

  /** Removes links of ours that somebody gave another name: they would keep addresses, routes and port from what takes their place. */
  async #removeRenamed(signal: AbortSignal | undefined): Promise<void> {
    const { label, links } = this.#parts;
    const names = await links.labelled(label, signal);
    if (names.length === 0) return;
    const known = new Set((await this.#records.all()).map(({ realName }) => realName));
    for (const name of names) if (!known.has(name) && !isEarlyName(name)) await links.remove(name, signal);
  }

  /** False if it has just come to an end. One that hangs isn't made anew: it may be busy, and its traffic goes on. */
  async #answers(record: InterfaceRecord, signal: AbortSignal | undefined): Promise<boolean> {
    const backend = this.#backend(record.kind);
    try {
      await backend.alive(record.realName, signal);
      return true;
    } catch (error) {
      // A process that is ending hangs up before it is gone.
      for (const endsAt = performance.now() + ENDING_MS; performance.now() < endsAt; await delay(20)) {
        if ((await backend.fault(record, signal)) !== undefined) return false;
      }
      throw error;
    }
  }

  /** The record if what it says is there, works, and can do what is asked for. */
  async #whole(
    { backend: choice, ...request }: InterfaceRequest,
    record: InterfaceRecord | undefined,
    signal: AbortSignal | undefined,
  ): Promise<InterfaceRecord | undefined> {
    if (record === undefined || (choice !== 'auto' && choice !== record.kind)) return undefined;
    const backend = this.#backend(record.kind);
    if (backend.shortOf(record, { backend: choice, ...request }) !== undefined) return undefined;
    return (await backend.fault(record, signal)) === undefined ? record : undefined;
  }

  async #make(
    request: InterfaceRequest,
    link: FoundLink | undefined,
    before: InterfaceRecord | undefined,
    signal: AbortSignal | undefined,
  ): Promise<OpenInterface> {
    const { name } = request;
    const backend = await this.#choose(request, before?.kind, signal);
    // What another kind has made is of no use, nor is a link that nothing is known of.
    const keepsLink = link !== undefined && before?.kind === backend.kind;
    if (before !== undefined && !keepsLink) await this.#backend(before.kind).clear(before, signal);
    if (link !== undefined && before === undefined) await this.#parts.links.remove(name, signal);
    if (link === undefined && before !== undefined) await this.#removeRenamed(signal);
    if (before?.daemon !== undefined && keepsLink) await this.#backend(before.kind).halt(before);
    let record: InterfaceRecord = { name, realName: name, kind: backend.kind, foreign: false, daemon: undefined };
    const save = async (change: Partial<InterfaceRecord>) => {
      record = { ...record, ...change };
      await this.#records.put(record);
    };
    await save({});
    try {
      await backend.make(request, save, signal);
    } catch (error) {
      await this.#giveUp(backend, record, keepsLink);
      throw error;
    }
    return this.#opened(record, backend.device(name), false);
  }

  /** Leaves nothing of an interface that could not be made, but keeps the link of one that there was: it holds up routes. */
  async #giveUp(backend: WireguardBackend, record: InterfaceRecord, keepsLink: boolean): Promise<void> {
    // Not with the caller's signal, which may be why it was given up.
    if (keepsLink) return await backend.halt(record);
    await backend.clear(record);
    await this.#records.delete(record.name);
  }

  /** The backend that is asked for; with `auto` that of before if it still can be had, else the first that can. */
  async #choose(
    { backend: choice, name }: InterfaceRequest,
    before: Backend | undefined,
    signal: AbortSignal | undefined,
  ): Promise<WireguardBackend> {
    const { backends } = this.#parts;
    const preferred = backends.filter(({ kind }) => (choice === 'auto' ? kind === before : kind === choice));
    const others = choice === 'auto' ? backends.filter(({ kind }) => kind !== before) : [];
    const reasons: string[] = [];
    for (const backend of [...preferred, ...others]) {
      const missing = await backend.missing(signal);
      if (missing === undefined) return backend;
      reasons.push(`${backend.kind}: ${missing}`);
    }
    const what = choice === 'auto' ? 'no WireGuard can be had' : `WireGuard as ${choice} can't be had`;
    throw new LonglineError('unsupported', `${what} for "${name}": ${reasons.join('; ')}`);
  }

  async #openForeign(
    request: InterfaceRequest,
    link: FoundLink,
    record: InterfaceRecord | undefined,
    signal: AbortSignal | undefined,
  ): Promise<OpenInterface> {
    const { name } = request;
    // Somebody took our link's place: what remains of it is taken away, but not theirs.
    if (record?.foreign === false) {
      await this.#backend(record.kind).clear(record, signal);
      await this.#records.delete(name);
    }
    const found = await findForeign(name, link, signal);
    if (found === undefined || !request.adoptForeign) {
      const mend = found === undefined ? '' : ', or allow it to be adopted (adopt_interface)';
      const whose = link.label === '' ? '' : `, labelled "${link.label}"`;
      const what = found === undefined ? link.kind || 'another' : `${found.kind} WireGuard`;
      const message = `"${name}" is a ${what} interface that this agent did not make${whose}; choose another name${mend}`;
      throw new LonglineError('already_exists', message);
    }
    if (request.backend !== 'auto' && request.backend !== found.kind) {
      throw new LonglineError('wrong_state', `"${name}" is somebody else's ${found.kind}, not ${request.backend}`);
    }
    const adopted = { name, realName: name, kind: found.kind, foreign: true, daemon: undefined };
    await this.#records.put(adopted);
    const device = found.kind === 'kernel' ? this.#backend('kernel').device(name) : found.device;
    return this.#opened(adopted, device, true);
  }

  #opened(record: InterfaceRecord, device: WireguardDevice, adopted: boolean): OpenInterface {
    const { foreign, kind, name, realName } = record;
    const lost = async (signal: AbortSignal) => await this.#watch(record, signal);
    return { adopted, device, foreign, kind, lost, name, realName };
  }

  async #watch(record: InterfaceRecord, signal: AbortSignal): Promise<string> {
    const { clock = systemClock, links } = this.#parts;
    const { foreign, kind, realName } = record;
    const first = await links.find(realName, signal);
    const daemon = foreign || kind === 'kernel' ? undefined : this.#backend(kind);
    for (let linkSeenMs = clock.monotonic(); ; ) {
      const fault = await daemon?.fault(record, signal);
      if (fault !== undefined) return fault;
      if (daemon === undefined || clock.monotonic() - linkSeenMs >= WATCH_LINK_MS) {
        const link = await links.find(realName, signal);
        if (link === undefined) return `its link "${realName}" is gone`;
        if (link.index !== first?.index) return `its link "${realName}" was made anew by somebody else`;
        linkSeenMs = clock.monotonic();
      }
      await clock.sleep(daemon === undefined ? WATCH_LINK_MS : WATCH_DAEMON_MS, signal);
    }
  }

  #backend(kind: Backend): WireguardBackend {
    const backend = this.#parts.backends.find((one) => one.kind === kind);
    if (backend === undefined) throw new LonglineError('unsupported', `WireGuard as ${kind} is unknown here`);
    return backend;
  }
}

// The kernel of this host, for the programs capability: what its port asks for, through libbpf. Loads, pins and reads by itself, and
// leaves attaching to Attachments. Everything lies below <bpffs>/longline/<instance>, and nothing else is ever touched. Must not know
// why something is loaded. Fails as the port says.
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { release } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type {
  ArtifactCounter,
  AttachOrder,
  EventStream,
  FoundLink,
  FoundProgram,
  Kernel,
  KernelSupport,
  LoadOutcome,
  LoadRequest,
  RevisionPlace,
  RevisionStats,
} from '../../capabilities/programs/ports.ts';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { PROGRAM_TYPES } from '../../core/programs/program-type.ts';
import type { AttachTask } from './attach-task.ts';
import { Attachments, isAtomic } from './attachments.ts';
import { isBpfFileSystem, mountBpfFileSystem } from './bpf-file-system.ts';
import { BpfFd, checked, ERRNO, programInfo } from './bpf-syscall.ts';
import { EventRing } from './event-ring.ts';
import { libbpf } from './libbpf.ts';
import { Pins, placeText } from './pins.ts';
import { loadRevision } from './revision-loader.ts';
import { readCounters, readRevision, readStats } from './revision-reader.ts';
import { probeTypes } from './type-probes.ts';

const MOUNT_POINT = '/sys/fs/bpf';
const BOOT_ID = '/proc/sys/kernel/random/boot_id';
/** The verifier looks at a million instructions at most, which takes it seconds. */
const LOAD_LIMIT_MS = 60_000;
const STATS_RUN_TIME = 0;

/** Settings of BpfKernel. */
export interface BpfKernelOptions {
  readonly instanceId: string;
  /** Where the BPF file system is, or is to be mounted. Default: /sys/fs/bpf. */
  readonly mountPoint?: string;
  readonly log: Logger;
  readonly attachments?: Attachments;
  /** How long the verifier may take for a revision. Default: 60 s. */
  readonly loadLimitMs?: number;
}

/** The real one. Disposing it lets go of descriptors; all that is pinned stays. */
export class BpfKernel implements Kernel, AsyncDisposable {
  readonly #mountPoint: string;
  readonly #pins: Pins;
  readonly #log: Logger;
  readonly #attachments: Attachments;
  readonly #loadLimitMs: number;
  readonly #held = new Set<Disposable>();
  readonly #loads = new Set<AbortController>();

  /** Throws `invalid` for an instance id that can't be part of a path. */
  constructor(options: BpfKernelOptions) {
    const { instanceId, mountPoint = MOUNT_POINT, log, attachments = new Attachments() } = options;
    this.#mountPoint = mountPoint;
    this.#pins = new Pins(mountPoint, instanceId);
    this.#log = log;
    this.#attachments = attachments;
    this.#loadLimitMs = options.loadLimitMs ?? LOAD_LIMIT_MS;
  }

  async support(signal?: AbortSignal): Promise<KernelSupport> {
    signal?.throwIfAborted();
    const host = { bootId: bootId(), release: release() };
    try {
      libbpf();
      this.#mount();
      const types = probeTypes(isAtomic);
      // What keeps one type from being loaded may keep all from it, as missing privileges do.
      const had = types.some(({ missing }) => missing === undefined);
      return { ...host, missing: had ? undefined : types[0]?.missing, types };
    } catch (error) {
      const { message } = toLonglineError(error);
      // Whoever asks says so once; it is asked again and again.
      this.#log.debug('programs can’t be loaded', { err: describeError(error) });
      const types = PROGRAM_TYPES.map((type) => ({ atomic: isAtomic(type), missing: message, type }));
      return { ...host, missing: message, types };
    }
  }

  async list(signal?: AbortSignal): Promise<readonly FoundProgram[]> {
    signal?.throwIfAborted();
    // Where none is mounted there is nothing of ours, and nothing to ask.
    if (!isBpfFileSystem(this.#mountPoint)) return [];
    return this.#pins.programs().flatMap((program) => {
      const whole = this.#pins.tidy(program);
      if (whole.left) this.#log.warn('a revision that was only half there is taken away', { program });
      const revisions = whole.revisions.map((revision) => readRevision(this.#pins, { program, revision }));
      const folder = this.#pins.linksFolder(program);
      const found = existsSync(folder) ? this.#attachments.list(folder) : [];
      const links = found.map((link): FoundLink => ({ ...link, program }));
      return revisions.length === 0 && links.length === 0 ? [] : [{ links, program, revisions }];
    });
  }

  async load(request: LoadRequest, signal?: AbortSignal): Promise<LoadOutcome> {
    signal?.throwIfAborted();
    this.#mount();
    const ends = new AbortController();
    const took = `loading ${placeText(request.place)} took more than ${this.#loadLimitMs / 1000} s`;
    const timer = setTimeout(() => ends.abort(new LonglineError('late', took)), this.#loadLimitMs);
    const abort = () => ends.abort(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    this.#loads.add(ends);
    try {
      return await loadRevision(this.#pins, request, ends.signal, this.#log);
    } finally {
      this.#loads.delete(ends);
      signal?.removeEventListener('abort', abort);
      clearTimeout(timer);
    }
  }

  async attach(order: AttachOrder, signal?: AbortSignal): Promise<FoundLink> {
    await turnToOthers(signal);
    return this.#attach(order, (path, task) => {
      this.#pins.makeLinksFolder(order.place.program);
      return this.#attachments.attach(path, task);
    });
  }

  async replace(order: AttachOrder, signal?: AbortSignal): Promise<FoundLink> {
    await turnToOthers(signal);
    return this.#attach(order, (path, task) => this.#attachments.replace(path, task));
  }

  async detach(program: string, slot: string, signal?: AbortSignal): Promise<void> {
    await turnToOthers(signal);
    const path = this.#pins.linkPath(program, slot);
    if (!isBpfFileSystem(this.#mountPoint)) return;
    this.#attachments.detach(path);
    this.#pins.tidy(program);
  }

  async unload(place: RevisionPlace, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (isBpfFileSystem(this.#mountPoint)) this.#pins.remove(place);
  }

  async readCounters(
    place: RevisionPlace,
    counters: readonly ArtifactCounter[],
    signal?: AbortSignal,
  ): Promise<readonly (bigint | undefined)[]> {
    signal?.throwIfAborted();
    return readCounters(this.#pins, place, counters);
  }

  async stats(place: RevisionPlace, signal?: AbortSignal): Promise<RevisionStats> {
    signal?.throwIfAborted();
    return readStats(this.#pins, place);
  }

  holdStatistics(): Disposable {
    const fd = libbpf().number('bpf_enable_stats', STATS_RUN_TIME);
    if (fd === -ERRNO.EINVAL) {
      throw new LonglineError('unsupported', 'runs can’t be counted: that needs a kernel from 5.8 on');
    }
    return this.#hold(new BpfFd(checked('having the kernel count runs', fd)));
  }

  openEvents(place: RevisionPlace, map: string): EventStream {
    using found = this.#pins.openMap(place, map);
    if (found === undefined) throw new LonglineError('not_found', `${placeText(place)} has no map ${map}`);
    const ring = new EventRing(found.fd, map);
    const held = this.#hold(ring);
    return { take: (most) => ring.take(most), [Symbol.dispose]: () => held[Symbol.dispose]() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const load of this.#loads) load.abort(new LonglineError('cancelled', 'the agent lets go of its kernel'));
    for (const held of [...this.#held]) held[Symbol.dispose]();
    this.#held.clear();
  }

  #attach(order: AttachOrder, work: (path: string, task: AttachTask) => Omit<FoundLink, 'program'>): FoundLink {
    const { place, point, slot, type } = order;
    const path = this.#pins.linkPath(place.program, slot);
    const { expectedAttachType, held, name } = this.#pins.openFunction(place, order.function);
    using function_ = held;
    const task = {
      function: { expectedAttachType, fd: function_.fd, id: programInfo(function_.fd).id, name },
      point,
      type,
    };
    return { ...work(path, task), program: place.program };
  }

  #hold(held: Disposable): Disposable {
    this.#held.add(held);
    return {
      [Symbol.dispose]: () => {
        if (this.#held.delete(held)) held[Symbol.dispose]();
      },
    };
  }

  #mount(): void {
    if (!mountBpfFileSystem(this.#mountPoint)) return;
    const mountPoint = this.#mountPoint;
    if (hasOwnMounts()) {
      const mend = `mount it before the agent starts: mount -t bpf bpf ${mountPoint}`;
      this.#log.warn('mounted a BPF file system that ends with this service, and all that is pinned in it', {
        mend,
        mountPoint,
      });
    } else this.#log.info('mounted a BPF file system', { mountPoint });
  }
}

/**
 * Before what the kernel may take its time for: attaching waits for packets that are on their way. A row of such calls would keep
 * everybody else waiting for all of them.
 */
async function turnToOthers(signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  await nextTurn();
  signal?.throwIfAborted();
}

/** True if mounts of this process aren't those of the host, as in services with a file system of their own. */
function hasOwnMounts(): boolean {
  try {
    return readlinkSync('/proc/self/ns/mnt') !== readlinkSync('/proc/1/ns/mnt');
  } catch {
    // Not to be looked at: then it isn't known, and a warning would be a guess.
    return false;
  }
}

function bootId(): string {
  try {
    return readFileSync(BOOT_ID, 'utf8').trim();
  } catch {
    // Not Linux, where nothing is loaded that a boot could end.
    return '';
  }
}

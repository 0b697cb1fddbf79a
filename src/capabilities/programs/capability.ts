// Capability "programs": BPF programs of this host, each brought about, watched and kept as it is wanted by the controller, by a registry
// or on the host itself. It knows the kernel, artifacts and keys by its ports only. What is wanted is on disk before anything is done,
// and is enforced from there while nobody can be asked; losing controller, registry or the agent disturbs nothing that runs. A program
// that can't be had, or misbehaves, is told as such and costs the others nothing. Disposing leaves all programs as they are, unless the
// host is to be left clean.
import type {
  Availability,
  Capability,
  CapabilityCommand,
  CapabilityEvent,
  CapabilityHealth,
  CapabilityHost,
  CommandContext,
  HealthChecked,
  Recoverable,
} from '../../core/capability.ts';
import type { Reconciler, StateChange, StateItemError, StateObserver, StateRef } from '../../core/desired-state.ts';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Progress } from '../../core/progress.ts';
import { announcedRollback } from './announcer.ts';
import { type Arrangement, type Asked, arrange, NOTHING_ASKED } from './arrangement.ts';
import { type CapabilityParts, loadParts, type ProgramsCapabilityOptions } from './capability-parts.ts';
import { carryOut } from './commands.ts';
import { orderOf } from './order.ts';
import type { AnnouncedRollback, FoundProgram, KernelSupport, RollbackRequest } from './ports.ts';
import { Program } from './program.ts';
import { programsHealth } from './program-health.ts';
import type { Quarantined } from './quarantine.ts';
import type { ProgramRecord } from './record.ts';
import { isAbout, RefusalLog } from './refusal-log.ts';
import type { RollbackHistory, RollbackRecord } from './rollback.ts';
import type { ProgramView } from './status.ts';
import { unloadAll } from './unloading.ts';
import type { LastMeasured } from './watch.ts';
import { decodeSpec, encodeStateDetail, type ProgramSpecInput, specMessage } from './wire.ts';

export type { ProgramsCapabilityOptions } from './capability-parts.ts';

/** Longest wait for a program to be up or gone; it goes on by itself after that. */
const WAIT_MS = 60_000;
/** Longest that the first report of a state waits for programs that take their time, as those that are fetched slowly. */
const SETTLE_MS = 10_000;
/** How often artifacts that nobody needs any more are dropped. */
const TIDY_MS = 60_000;
const NOTHING_HELD: StateRef = { generation: 0n, digest: new Uint8Array() };

/** The programs capability. */
export class ProgramsCapability implements Capability, Recoverable, HealthChecked, Reconciler {
  readonly name = 'programs';
  readonly desiredStateKind = 'programs';
  readonly #options: ProgramsCapabilityOptions;
  readonly #programs = new Map<string, Program>();
  readonly #stopping = new AbortController();
  readonly #refusals = new RefusalLog();
  #observer: StateObserver | undefined;
  #parts: CapabilityParts | undefined;
  #support: KernelSupport | undefined;
  #arrangement: Arrangement = NOTHING_ASKED;
  #begun = false;
  #untidy = true;
  #isTold = false;
  #telling: NodeJS.Immediate | undefined;
  #tasks: Promise<unknown> | undefined;
  #disposed: Promise<void> | undefined;

  constructor(options: ProgramsCapabilityOptions) {
    this.#options = options;
  }

  async open(host: CapabilityHost): Promise<Availability> {
    if (this.#parts === undefined) {
      this.#parts = await loadParts(host, this.#options, {
        support: () => this.#supported(),
        programs: () => this.#programs.values(),
        makeRoom: async (oldest, by, signal) => await this.#makeRoom(oldest, by, signal),
        asked: () => void this.#arrange(),
      });
      this.#parts.teller.observer = this.#observer;
    }
    try {
      const support = await this.#options.kernel.support(host.signal);
      this.#support = support;
      return this.#available(support);
    } catch (error) {
      return { available: false, reason: toLonglineError(error).message, mend: MEND };
    }
  }

  /** As Recoverable.adopt: what is there is gone on with, and what is wanted is brought about from here on. */
  async adopt(): Promise<void> {
    const { services } = this.#open();
    const found = new Map((await this.#options.kernel.list(this.#stopping.signal)).map((one) => [one.program, one]));
    const damaged = (program: string, error: unknown) => {
      services.log.error('what is known of a program can not be read', { program, err: describeError(error) });
    };
    for (const record of await services.records.all(damaged)) {
      if (record.sequence > 0 && record.over === undefined) services.room.restore(record.name, record.sequence);
      this.#add(record.name, record, found.get(record.name));
    }
    // Without a record nobody can say what these are for: they go, unless they are wanted, and then they begin anew.
    for (const [name, one] of found) if (!this.#programs.has(name)) this.#add(name, undefined, one);
    this.#begun = true;
    this.#arrange();
    this.#tasks = Promise.all(
      [...this.#open().tasks, (signal: AbortSignal) => this.#tidy(signal)].map((run) => run(this.#stopping.signal)),
    );
  }

  async *handle(command: CapabilityCommand, context: CommandContext): AsyncGenerator<CapabilityEvent> {
    yield await carryOut(command, context, {
      clock: this.#open().services.clock,
      history: () => this.rollbacks(),
      program: (name) => this.#programs.get(name),
      names: () => [...this.#programs.keys()],
      releaseQuarantine: async (artifact) => await this.releaseQuarantine(artifact),
    });
  }

  async applyState(change: StateChange): Promise<void> {
    await this.#open().held.take(change);
    this.#arrange();
  }

  held(): StateRef | undefined {
    return this.#parts?.held.held;
  }

  observeState(observer: StateObserver): void {
    this.#observer = observer;
    if (this.#parts !== undefined) this.#parts.teller.observer = observer;
  }

  /** Makes a program of this host be so, and keeps it so. Resolves once a pass over it is over, however it went. */
  async applyLocal(spec: Partial<ProgramSpecInput>): Promise<ProgramView | undefined> {
    const message = specMessage(spec);
    const { spec: checked } = orderOf('local', message);
    await this.#open().local.put(message);
    await this.#within(this.#arrange().get(checked.name));
    return this.#programs.get(checked.name)?.view();
  }

  /** Takes a program away that was asked for here. Resolves after a pass over that. */
  async removeLocal(name: string): Promise<void> {
    const { local } = this.#open();
    if (!local.has(name)) {
      const names = local.all().map((spec) => spec.name);
      throw new LonglineError(
        'not_found',
        `name: no program "${name}" was asked for on this host; those are: ${listed(names)}`,
      );
    }
    await local.delete(name);
    await this.#within(this.#arrange().get(name));
  }

  /** All programs as they are, in the order of names. */
  look(): readonly ProgramView[] {
    const views = [...this.#programs.values()].map((program) => program.view());
    return views.sort((one, other) => (one.name < other.name ? -1 : 1));
  }

  /** The latest first, at most a hundred. */
  rollbacks(): readonly RollbackRecord[] {
    return this.#parts?.services.history.all() ?? [];
  }

  /** How many rollbacks came to their end since the process was started, by why. */
  rollbackCounts(): RollbackHistory['counts'] {
    return this.#parts?.services.history.counts ?? new Map();
  }

  /** What was measured last, by program. */
  measured(): ReadonlyMap<string, LastMeasured> {
    return this.#parts?.watch.last ?? new Map();
  }

  /** What is held back on this host. */
  quarantined(): readonly Quarantined[] {
    return this.#parts?.services.quarantine.all() ?? [];
  }

  /**
   * Goes back to the revision before, for somebody who is no controller, as RollbackHandler. Of several programs that run the artifact
   * all go back, and the first is told of.
   */
  async rollBack(request: RollbackRequest): Promise<AnnouncedRollback> {
    const { program: name, artifact, reason, requestedBy } = request;
    const runs = (program: Program) => artifact !== undefined && program.record.current?.artifact === artifact;
    const named = name === undefined ? [...this.#programs.values()].filter(runs) : [this.#programs.get(name)];
    const [first, ...others] = named.filter((program) => program !== undefined);
    if (first === undefined) {
      const what = name === undefined ? `no program runs ${artifact}` : `there is no program "${name}"`;
      throw new LonglineError('not_found', `${what}; there are: ${listed(this.#programs.keys())}`);
    }
    const cause = { trigger: 'request', threshold: 0, value: 0, figures: undefined, reason, requestedBy } as const;
    const [record] = await Promise.all([first, ...others].map((program) => program.rollBack(cause, { artifact })));
    return announcedRollback(record!);
  }

  /** Lets a quarantined artifact be loaded again; undefined for all. Gives those that were released. Durable when it resolves. */
  async releaseQuarantine(artifact: string | undefined): Promise<readonly string[]> {
    const released = await this.#open().services.quarantine.release(artifact);
    for (const program of this.#programs.values()) program.wake();
    return released;
  }

  /** Whether each program gets on, and looking after all of them. */
  get progress(): readonly Progress[] {
    const { registry, watch } = this.#parts ?? {};
    const ofAll = [watch, registry].flatMap((one) => one?.progress ?? []);
    return [...ofAll, ...[...this.#programs.values()].map(({ progress }) => progress)];
  }

  async health(): Promise<CapabilityHealth> {
    return programsHealth(this.look(), this.#parts?.registry?.trouble);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    await this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.#stopping.abort(new LonglineError('cancelled', 'the programs are let go of'));
    await this.#tasks;
    const programs = [...this.#programs.values()];
    await Promise.all(programs.map((program) => program[Symbol.asyncDispose]()));
    if (this.#parts !== undefined && this.#begun && this.#options.config.atShutdown === 'unload') {
      const { clock, log } = this.#parts.services;
      await unloadAll(programs, clock, log);
    }
    this.#parts?.[Symbol.dispose]();
  }

  readonly #listener = {
    changed: () => {
      this.#untidy = true;
      this.#tell();
    },
    removed: (program: Program) => {
      this.#programs.delete(program.name);
      this.#untidy = true;
      for (const other of this.#programs.values()) if (other.view().problems.length > 0) other.wake();
      // Asked for again while it went.
      if (this.#arrangement.orders.has(program.name)) this.#arrange();
      this.#tell();
    },
  };

  #add(name: string, record: ProgramRecord | undefined, found: FoundProgram | undefined): Program {
    const program = new Program(name, record, found, this.#open().services, this.#listener);
    this.#programs.set(name, program);
    return program;
  }

  #available(support: KernelSupport): Availability {
    if (support.missing !== undefined) return { available: false, reason: support.missing, mend: MEND };
    const had = support.types.filter(({ missing }) => missing === undefined).map(({ type }) => type);
    const missing = support.types.filter((type) => type.missing !== undefined);
    const attributes = {
      kernel: support.release,
      types: had.join(','),
      ...(missing.length > 0 && { missing_types: missing.map((one) => `${one.type}: ${one.missing}`).join('; ') }),
    };
    return { available: true, limits: { max_programs: this.#options.config.maxPrograms }, attributes };
  }

  #supported(): KernelSupport {
    if (this.#support === undefined)
      throw new LonglineError('unavailable', 'the kernel was not asked yet what it can do');
    return this.#support;
  }

  #open(): CapabilityParts {
    if (this.#parts === undefined) throw new LonglineError('wrong_state', 'programs were not opened yet');
    return this.#parts;
  }

  /** Tells each program what it is to be now; the promises say when each has passed over that. */
  #arrange(): ReadonlyMap<string, Promise<void>> {
    const { held, local, registry, teller } = this.#open();
    const asked: Asked[] = [
      { source: 'local', specs: local.all(), refused: [] },
      { source: 'controller', specs: held.held?.programs ?? [], refused: [] },
      { source: 'registry', specs: registry?.specs ?? [], refused: registry?.refused ?? [] },
    ];
    this.#arrangement = arrange(asked);
    const passes = new Map<string, Promise<void>>();
    if (!this.#begun || this.#stopping.signal.aborted) return passes;
    const { orders, refused } = this.#arrangement;
    this.#refusals.note(refused, this.#open().services.log);
    for (const [name, order] of orders) {
      const program = this.#programs.get(name) ?? this.#add(name, undefined, undefined);
      passes.set(name, program.want(order));
    }
    for (const [name, program] of this.#programs) {
      if (orders.has(name)) continue;
      const { current, source } = program.record;
      const unclear = source === 'registry' && registry?.isKnown === false;
      const isKept = current !== undefined && (unclear || refused.some((one) => isAbout(one, name, source)));
      // What can't be made sense of is no reason to take away what it was before.
      const before = isKept ? orderOf(source, decodeSpec(Buffer.from(current.spec, 'base64'))) : undefined;
      passes.set(name, program.want(before));
    }
    const generation = held.held?.generation ?? 0n;
    void this.#within(Promise.all(passes.values()), SETTLE_MS).then(() => {
      teller.settled = generation;
      this.#tell();
    });
    return passes;
  }

  /** Soon, and once for all that happens until then. */
  #tell(): void {
    this.#telling ??= setImmediate(() => {
      this.#telling = undefined;
      if (!this.#stopping.signal.aborted) this.#tellNow();
    });
  }

  #tellNow(): void {
    const { held, registry, teller } = this.#open();
    // Nobody who was never told of any has to hear that there is none.
    this.#isTold ||= held.held !== undefined || this.#programs.size > 0 || registry !== undefined;
    if (!this.#isTold) return;
    const views = this.look();
    const items: StateItemError[] = this.#arrangement.refused
      .filter(({ source }) => source === 'controller')
      .map(({ item, error }) => ({ item, error }));
    for (const { name, source, problems } of views) {
      if (source === 'controller' && problems[0] !== undefined) items.push({ item: name, error: problems[0].error });
    }
    teller.tell(held.held ?? NOTHING_HELD, items, () => encodeStateDetail(views));
  }

  async #makeRoom(oldest: string, by: string, signal: AbortSignal): Promise<void> {
    const { services } = this.#open();
    const program = this.#programs.get(oldest);
    if (program === undefined) return services.room.leave(oldest);
    await this.#within(program.giveWay(by));
    signal.throwIfAborted();
    if (services.room.sequence(oldest) === 0) return;
    const message = `program ${oldest}, which was loaded first, is not unloaded yet; it has to make room`;
    throw new LonglineError('limit', message);
  }

  async #tidy(signal: AbortSignal): Promise<void> {
    const { services } = this.#open();
    while (!signal.aborted) {
      await services.clock.sleep(TIDY_MS, signal).catch(() => undefined);
      if (signal.aborted || !this.#untidy) continue;
      this.#untidy = false;
      try {
        await this.#options.artifacts.keepOnly(this.#needed());
      } catch (error) {
        services.log.warn('artifacts that nobody needs could not be dropped', { err: describeError(error) });
      }
    }
  }

  #needed(): ReadonlySet<string> {
    const needed = new Set([...this.#arrangement.orders.values()].map(({ spec }) => spec.artifact));
    for (const { record } of this.#programs.values()) {
      for (const revision of [record.current, record.previous, record.next]) {
        if (revision !== undefined) needed.add(revision.artifact);
      }
    }
    return needed;
  }

  async #within(work: Promise<unknown> | undefined, limitMs = WAIT_MS): Promise<void> {
    const { clock } = this.#open().services;
    const over = new AbortController();
    await Promise.race([work, clock.sleep(limitMs, over.signal).catch(() => undefined)]);
    over.abort();
  }
}

const MEND =
  'programs need libbpf 1.0, CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (or root), a kernel with BPF and BTF, and the BPF file system (mount -t bpf bpf /sys/fs/bpf)';

function listed(names: Iterable<string>): string {
  return [...names].sort().join(', ') || 'none';
}

// Backs up the engine's waits. An engine may fail to notice that a container ended, or its answer may get lost: Podman
// learns of an end from a process that conmon starts for it, and if that process doesn't make it, a wait stays open until
// somebody asks for the container. So while waits are open, all of them together are backed up by one listing at a calm
// pace. Must not know jobs. A listing that fails is left out: the daemon's loss shows in the waits themselves.
import type { ContainerExit, ContainerFacts } from '../../capabilities/jobs/ports.ts';
import { LonglineError } from '../../core/errors.ts';

/** How a watch asks the engine. */
export interface ExitSource {
  /** Ids of the containers that have exited. */
  exited(): Promise<ReadonlySet<string>>;
  inspect(id: string): Promise<ContainerFacts | undefined>;
}

/** Pace of an ExitWatch. */
export interface ExitWatchOptions {
  /** Between two listings; more where a listing takes long. */
  readonly everyMs?: number;
  /** From the end of a container's output to a listing, if its wait isn't answered by then. */
  readonly afterOutputMs?: number;
}

const EVERY_MS = 5000;
const AFTER_OUTPUT_MS = 1000;
/** A listing may take this part of the time: hundreds of containers make it rarer, not the engine busier. */
const PART_OF_TIME = 1 / 50;
/** The answer to a wait comes about when a removal is done, before or after. */
const AFTER_REMOVAL_MS = 2000;

interface Wait {
  readonly id: string;
  /** It was running since the wait began: only then is "exited" the end that was waited for. */
  ran: boolean;
  /** Runs once its output has ended. */
  suspicion: NodeJS.Timeout | undefined;
  readonly settle: (exit: ContainerExit | LonglineError) => void;
}

/** Waits of one engine. Dispose stops the listings; the waits end with the engine's connections. */
export class ExitWatch implements Disposable {
  readonly #source: ExitSource;
  readonly #everyMs: number;
  readonly #afterOutputMs: number;
  readonly #waits = new Set<Wait>();
  readonly #removals = new Set<NodeJS.Timeout>();
  #timer: NodeJS.Timeout | undefined;
  #dueMs = Number.POSITIVE_INFINITY;
  #looking = false;
  #restMs: number;
  #disposed = false;

  constructor(source: ExitSource, options: ExitWatchOptions = {}) {
    this.#source = source;
    this.#everyMs = options.everyMs ?? EVERY_MS;
    this.#afterOutputMs = options.afterOutputMs ?? AFTER_OUTPUT_MS;
    this.#restMs = this.#everyMs;
  }

  /**
   * The end of a container: the engine's answer, or what is found out without it. `giveUp` is called when the answer is
   * not needed any more.
   */
  async watch(id: string, answer: Promise<ContainerExit>, giveUp: () => void): Promise<ContainerExit> {
    const { promise, resolve, reject } = Promise.withResolvers<ContainerExit>();
    const settle = (exit: ContainerExit | LonglineError) => {
      if (exit instanceof LonglineError) reject(exit);
      else resolve(exit);
    };
    const wait: Wait = { id, ran: false, suspicion: undefined, settle };
    this.#waits.add(wait);
    this.#lookIn(this.#restMs);
    try {
      return await Promise.race([answer, promise]);
    } finally {
      this.#waits.delete(wait);
      clearTimeout(wait.suspicion);
      if (this.#waits.size === 0) this.#rest();
      answer.catch(() => undefined);
      giveUp();
    }
  }

  /** The container was seen to run. */
  running(id: string): void {
    for (const wait of this.#waits) if (wait.id === id) wait.ran = true;
  }

  /** Its output has ended; most often so has the container. */
  outputEnded(id: string): void {
    for (const wait of this.#waits) {
      if (wait.id !== id || wait.suspicion !== undefined || this.#disposed) continue;
      wait.suspicion = setTimeout(() => this.#lookIn(0), this.#afterOutputMs);
      wait.suspicion.unref();
    }
  }

  /** It was removed. What still waits for its end after a moment fails with `not_found`. */
  removed(id: string): void {
    const waits = [...this.#waits].filter((wait) => wait.id === id);
    if (waits.length === 0) return;
    const timer = setTimeout(() => {
      this.#removals.delete(timer);
      const error = new LonglineError('not_found', `container ${id.slice(0, 12)} was removed before its end was seen`);
      for (const wait of waits) wait.settle(error);
    }, AFTER_REMOVAL_MS);
    timer.unref();
    this.#removals.add(timer);
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#rest();
    for (const timer of this.#removals) clearTimeout(timer);
    for (const wait of this.#waits) clearTimeout(wait.suspicion);
  }

  #rest(): void {
    clearTimeout(this.#timer);
    this.#dueMs = Number.POSITIVE_INFINITY;
  }

  #lookIn(ms: number): void {
    const dueMs = performance.now() + ms;
    if (this.#disposed || this.#looking || dueMs >= this.#dueMs) return;
    clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    this.#timer = setTimeout(() => void this.#look(), ms);
    // Whoever waits for a container has a connection open, which keeps the process alive.
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    this.#dueMs = Number.POSITIVE_INFINITY;
    this.#looking = true;
    const beganMs = performance.now();
    try {
      const asked = [...this.#waits].filter((wait) => wait.ran);
      if (asked.length > 0) await this.#settleExited(asked);
    } catch {
      // Only a second way to the same news: the next listing may work, and the waits themselves tell a lost daemon.
    } finally {
      this.#looking = false;
      this.#restMs = Math.max(this.#everyMs, (performance.now() - beganMs) / PART_OF_TIME);
      if (this.#waits.size > 0) this.#lookIn(this.#restMs);
    }
  }

  async #settleExited(asked: readonly Wait[]): Promise<void> {
    const exited = await this.#source.exited();
    for (const wait of asked) {
      if (!exited.has(wait.id) || !this.#waits.has(wait)) continue;
      const facts = await this.#source.inspect(wait.id);
      if (facts?.state === 'exited' && facts.exitCode !== undefined) wait.settle({ exitCode: facts.exitCode });
    }
  }
}

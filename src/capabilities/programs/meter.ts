// Measures what programs do between two looks. Packets, violations and errors are the program's own counters and always complete.
// Runs, CPU and latency come from the kernel's statistics, which are all or nothing: while anybody holds them on, every BPF program of
// the host, also those of others, pays some 20 to 70 ns a run. So they stay on only while ours run seldom enough that this is next
// to nothing (20,000 runs a second make 0.04 to 0.14 % of a processor), or while one is watched closely; beyond that they are on in a
// window at the end of each interval, which still holds many more runs than a mean needs. A program that can't be read is told as failed; the others
// are measured all the same.
import type { Clock } from '../../core/clock.ts';
import { describeError, type LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { ArtifactCounter, ArtifactMetadata } from '../../core/programs/metadata.ts';
import {
  type EventCounts,
  figuresBetween,
  type ProgramFigures,
  type ProgramReading,
  type RunReading,
} from './figures.ts';
import type { Kernel, RevisionPlace } from './ports.ts';

/** Longest that a window is, and its share of the interval. */
const MAX_WINDOW_MS = 3_000;
const WINDOW_SHARE = 0.1;

/** Runs a second of all programs of ours past which they are counted in windows only. */
const BUSY_RUNS_PER_SECOND = 20_000;

/** A program to look at. */
export interface MeterSubject {
  readonly place: RevisionPlace;
  readonly counters: ArtifactMetadata['counters'];
  /** Of this revision so far. */
  readonly events: EventCounts;
  /** True while it is on probation or about to be rolled back: all of its runs are counted, however many. */
  readonly closely: boolean;
}

/** What a look at one program gave. */
export type Measurement =
  /** It was looked at before. */
  | { readonly kind: 'measured'; readonly place: RevisionPlace; readonly figures: ProgramFigures }
  /** This revision was looked at for the first time; the next look tells what it did since. */
  | { readonly kind: 'begun'; readonly place: RevisionPlace }
  /** It could not be read; the next look tells what it did since the last one that went well. */
  | { readonly kind: 'failed'; readonly place: RevisionPlace; readonly error: LonglineError };

/** What a meter is made from. */
export interface MeterOptions {
  readonly kernel: Pick<Kernel, 'stats' | 'readCounters' | 'holdStatistics'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** The usual time between two looks. */
  readonly checkIntervalMs: number;
}

interface Watched {
  readonly revision: number;
  readonly last: ProgramReading;
  /** Since when its runs are counted without a gap; undefined if they aren't. */
  readonly countedFrom: RunReading | undefined;
}

/** One per open capability; one reading a program is kept. Dispose to let go of the kernel's statistics. */
export class ProgramMeter implements Disposable {
  readonly #options: MeterOptions;
  readonly #watched = new Map<string, Watched>();
  #held: Disposable | undefined;
  #refused = false;

  constructor(options: MeterOptions) {
    this.#options = options;
  }

  /** How long a look takes at most while runs are counted in windows. */
  get windowMs(): number {
    return Math.min(MAX_WINDOW_MS, this.#options.checkIntervalMs * WINDOW_SHARE);
  }

  /**
   * Takes the reading that the first look counts from: best called when a revision is loaded and not attached yet, so that nothing
   * it does is missed. Throws what the kernel throws; then the first look is the beginning.
   */
  async begin(subject: MeterSubject, signal: AbortSignal): Promise<void> {
    this.#held ??= this.#hold();
    const counting = this.#held !== undefined;
    const reading = await this.#read(subject, signal);
    this.#keep(subject.place, reading, counting);
  }

  /**
   * Looks at these programs, in their order. Takes a window longer where runs aren't counted all the time. Throws only the signal's
   * reason. Programs that aren't among them are not looked at, and keep their last reading; without any, statistics are let go.
   */
  async look(subjects: readonly MeterSubject[], signal: AbortSignal): Promise<readonly Measurement[]> {
    signal.throwIfAborted();
    if (subjects.length === 0) {
      this.#release();
      return [];
    }
    using window = new DisposableStack();
    const held = this.#held === undefined ? this.#hold() : undefined;
    if (held !== undefined) window.use(held);
    const counting = this.#held !== undefined || held !== undefined;
    const starts = counting ? await this.#openWindow(subjects, signal) : new Map<string, RunReading>();
    const measurements: Measurement[] = [];
    for (const subject of subjects) {
      measurements.push(await this.#measure(subject, starts.get(subject.place.program), counting, signal));
    }
    if (!subjects.some(({ closely }) => closely) && runsPerSecond(measurements) > BUSY_RUNS_PER_SECOND) {
      this.#release();
    } else if (held !== undefined && this.#held === undefined) {
      // The window doesn't end: what was read last is what the next look counts from.
      window.move();
      this.#held = held;
    }
    return measurements;
  }

  /** Forgets a program that is no more. */
  forget(program: string): void {
    this.#watched.delete(program);
    if (this.#watched.size === 0) this.#release();
  }

  [Symbol.dispose](): void {
    this.#watched.clear();
    this.#release();
  }

  /** Readings that runs are counted from, of those whose runs were not counted so far; waits if there are any. */
  async #openWindow(subjects: readonly MeterSubject[], signal: AbortSignal): Promise<Map<string, RunReading>> {
    const starts = new Map<string, RunReading>();
    for (const { place } of subjects) {
      const watched = this.#watched.get(place.program);
      if (watched?.revision !== place.revision || watched.countedFrom !== undefined) continue;
      try {
        starts.set(place.program, await this.#readRuns(place, signal));
      } catch (error) {
        signal.throwIfAborted();
        this.#options.log.debug('a program could not be read', {
          program: place.program,
          detail: describeError(error),
        });
      }
    }
    if (starts.size > 0) await this.#options.clock.sleep(this.windowMs, signal);
    return starts;
  }

  async #measure(
    subject: MeterSubject,
    start: RunReading | undefined,
    counting: boolean,
    signal: AbortSignal,
  ): Promise<Measurement> {
    const { place, events } = subject;
    try {
      const reading = await this.#read(subject, signal);
      const before = this.#watched.get(place.program);
      this.#keep(place, reading, counting);
      if (before?.revision !== place.revision) return { kind: 'begun', place };
      const countedFrom = counting ? (before.countedFrom ?? start) : undefined;
      return { kind: 'measured', place, figures: figuresBetween(before.last, reading, countedFrom, events) };
    } catch (error) {
      signal.throwIfAborted();
      return { kind: 'failed', place, error: toLonglineError(error) };
    }
  }

  #keep({ program, revision }: RevisionPlace, last: ProgramReading, counting: boolean): void {
    this.#watched.set(program, { revision, last, countedFrom: counting ? last : undefined });
  }

  async #readRuns(place: RevisionPlace, signal: AbortSignal): Promise<RunReading & { readonly memoryBytes: number }> {
    const { kernel, clock } = this.#options;
    const beganMs = clock.monotonic();
    const { functions, memoryBytes } = await kernel.stats(place, signal);
    let [runs, runTimeNs] = [0n, 0n];
    for (const { runs: more, runTimeNs: spent } of functions) [runs, runTimeNs] = [runs + more, runTimeNs + spent];
    // In the middle of the call, so that a process that is held up in it on either side doesn't shift it much.
    return { atMs: (beganMs + clock.monotonic()) / 2, runs, runTimeNs, memoryBytes };
  }

  async #read({ place, counters }: MeterSubject, signal: AbortSignal): Promise<ProgramReading> {
    const runs = await this.#readRuns(place, signal);
    const { kernel, clock } = this.#options;
    const { packets, violations, errors, others } = counters;
    const named = Object.entries(others);
    const own = [packets, violations, errors].filter((counter) => counter !== undefined);
    const list = [...own, ...named.map(([, counter]) => counter)];
    const values = list.length === 0 ? [] : await kernel.readCounters(place, list, signal);
    const rest = [...values];
    const next = (counter: ArtifactCounter | undefined) => (counter === undefined ? undefined : rest.shift());
    const [packetCount, violationCount, errorCount] = [next(packets), next(violations), next(errors)];
    const further = named.map(([name], index) => [name, rest[index]] as const);
    return {
      ...runs,
      wallMs: clock.now(),
      packets: packetCount,
      violations: violationCount,
      errors: errorCount,
      others: Object.fromEntries(further.filter((entry): entry is [string, bigint] => entry[1] !== undefined)),
    };
  }

  #hold(): Disposable | undefined {
    try {
      return this.#options.kernel.holdStatistics();
    } catch (error) {
      if (!this.#refused) {
        const message = 'the kernel counts no runs: programs are watched without CPU and latency';
        this.#options.log.warn(message, { err: describeError(error) });
      }
      this.#refused = true;
      return undefined;
    }
  }

  #release(): void {
    this.#held?.[Symbol.dispose]();
    this.#held = undefined;
    for (const [program, watched] of this.#watched) {
      if (watched.countedFrom !== undefined) this.#watched.set(program, { ...watched, countedFrom: undefined });
    }
  }
}

function runsPerSecond(measurements: readonly Measurement[]): number {
  let sum = 0;
  for (const measurement of measurements) {
    if (measurement.kind !== 'measured' || measurement.figures.countedMs === 0) continue;
    sum += Number(measurement.figures.runs) / (measurement.figures.countedMs / 1000);
  }
  return sum;
}

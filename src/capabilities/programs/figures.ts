// What a program did between two looks, made from two readings of its figures. Pure. What the readings don't say (a counter that
// went backwards, since somebody reset it or its map was made anew) is undefined, and never taken for much or for nothing.

/** What is read of one revision at one moment. */
export interface ProgramReading {
  /** When, milliseconds of the monotonic clock. */
  readonly atMs: number;
  /** When, milliseconds since the epoch. */
  readonly wallMs: number;
  /** Calls of all its functions that were counted since it was loaded. */
  readonly runs: bigint;
  /** What they took. */
  readonly runTimeNs: bigint;
  readonly memoryBytes: number;
  /** Undefined where the program has no such counter, or it can't be read. */
  readonly packets: bigint | undefined;
  readonly violations: bigint | undefined;
  readonly errors: bigint | undefined;
  /** Those that can be read. */
  readonly others: Readonly<Record<string, bigint>>;
}

/** The part of a reading that tells of runs. */
export type RunReading = Pick<ProgramReading, 'atMs' | 'runs' | 'runTimeNs'>;

/** What a program did between two looks; becomes longline.v1.ProgramFigures. */
export interface ProgramFigures {
  /** Milliseconds since the epoch. */
  readonly startMs: number;
  readonly endMs: number;
  /** Between the looks, by the monotonic clock. */
  readonly elapsedMs: number;
  /** How much of that time runs were counted. CPU and latency are of that time. */
  readonly countedMs: number;
  /** Calls that were counted. */
  readonly runs: bigint;
  /** Of one processor; several can make more than 100. */
  readonly cpuPercent: number;
  /** Mean of one call; 0 without calls. */
  readonly latencyMs: number;
  /** Of functions and maps. */
  readonly memoryKb: number;
  /** Since it was loaded; 0 if it can't be told. */
  readonly packets: bigint;
  readonly violations: bigint;
  readonly errors: bigint;
  /** Between the looks; undefined if it can't be told. */
  readonly packetsDelta: bigint | undefined;
  readonly violationsDelta: bigint | undefined;
  readonly errorsDelta: bigint | undefined;
  /** Further counters, since it was loaded. */
  readonly others: Readonly<Record<string, bigint>>;
  /** Events that were told since it was loaded, and those that were not, being too many. */
  readonly events: number;
  readonly droppedEvents: number;
}

/** Events of one revision so far. */
export interface EventCounts {
  readonly events: number;
  readonly droppedEvents: number;
}

/**
 * What happened from one reading to the next of the same revision. Runs are those from `countedFrom` on, which may be later than
 * `before` where they are counted in windows only; undefined if they were not counted.
 */
export function figuresBetween(
  before: ProgramReading,
  now: ProgramReading,
  countedFrom: RunReading | undefined,
  { events, droppedEvents }: EventCounts,
): ProgramFigures {
  return {
    startMs: before.wallMs,
    endMs: now.wallMs,
    elapsedMs: Math.max(0, now.atMs - before.atMs),
    ...runFigures(countedFrom, now),
    memoryKb: Math.ceil(now.memoryBytes / 1024),
    packets: now.packets ?? 0n,
    violations: now.violations ?? 0n,
    errors: now.errors ?? 0n,
    packetsDelta: deltaOf(before.packets, now.packets),
    violationsDelta: deltaOf(before.violations, now.violations),
    errorsDelta: deltaOf(before.errors, now.errors),
    others: now.others,
    events,
    droppedEvents,
  };
}

type RunFigures = Pick<ProgramFigures, 'countedMs' | 'runs' | 'cpuPercent' | 'latencyMs'>;

const NO_RUNS: RunFigures = { countedMs: 0, runs: 0n, cpuPercent: 0, latencyMs: 0 };

function runFigures(from: RunReading | undefined, to: RunReading): RunFigures {
  if (from === undefined) return NO_RUNS;
  const countedMs = to.atMs - from.atMs;
  const runs = to.runs - from.runs;
  const spentNs = to.runTimeNs - from.runTimeNs;
  if (countedMs <= 0 || runs < 0n || spentNs < 0n) return NO_RUNS;
  const spentMs = Number(spentNs) / 1e6;
  const latencyMs = runs === 0n ? 0 : spentMs / Number(runs);
  return { countedMs, runs, cpuPercent: (spentMs / countedMs) * 100, latencyMs };
}

function deltaOf(before: bigint | undefined, now: bigint | undefined): bigint | undefined {
  if (before === undefined || now === undefined || now < before) return undefined;
  return now - before;
}

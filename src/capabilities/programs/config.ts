// Bounds of programs on this host.

/** When programs are rolled back unless artifact or spec say otherwise. 0 turns one off. */
export interface Thresholds {
  /** Errors between two checks. */
  readonly maxErrors: number;
  /** Violations between two checks. */
  readonly maxViolations: number;
  /** Of one processor. */
  readonly maxCpuPercent: number;
  /** Mean run time of one call. */
  readonly maxLatencyMs: number;
  /** Of functions and maps. */
  readonly maxMemoryKb: number;
  /** Fewest runs between two checks that CPU and latency are judged by. */
  readonly minRuns: number;
}

/** Settings of the capability. */
export interface ProgramsConfig {
  /** Programs at once. */
  readonly maxPrograms: number;
  /** What becomes of one more: it is refused, or the one that was loaded first goes. */
  readonly whenFull: 'refuse' | 'replace_oldest';
  /** For programs that don't say; 0 for ever. */
  readonly defaultTtlMs: number;
  /** What becomes of programs when the agent is shut down for good. After a crash they are always kept. */
  readonly atShutdown: 'keep' | 'unload';
  /** True to load artifacts that nobody signed. One with signatures of which none is good is refused all the same. */
  readonly allowUnsigned: boolean;
  readonly thresholds: Thresholds;
  /** True if a revision that the verifier refuses counts as rolled back: it is quarantined, and told as such. */
  readonly rollBackOnVerifierFailure: boolean;
  /** Between two looks at what programs do. */
  readonly checkIntervalMs: number;
  /** Between a threshold being exceeded and the rollback, which is left out if the look at its end finds all well. */
  readonly rollbackDelayMs: number;
  /** How long a new revision is watched before it counts as good. */
  readonly probationMs: number;
  /** Between two polls of a registry. */
  readonly pollIntervalMs: number;
  /** Most events of all ring buffers together that are told in a second. */
  readonly eventsPerSecond: number;
}

export const DEFAULT_PROGRAMS_CONFIG: ProgramsConfig = {
  maxPrograms: 10,
  whenFull: 'replace_oldest',
  defaultTtlMs: 3_600_000,
  atShutdown: 'keep',
  allowUnsigned: false,
  thresholds: {
    maxErrors: 10,
    maxViolations: 100,
    maxCpuPercent: 80,
    maxLatencyMs: 1000,
    maxMemoryKb: 102_400,
    minRuns: 100,
  },
  rollBackOnVerifierFailure: true,
  checkIntervalMs: 30_000,
  rollbackDelayMs: 5_000,
  probationMs: 60_000,
  pollIntervalMs: 30_000,
  eventsPerSecond: 100,
};

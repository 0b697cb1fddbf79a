// Thresholds as longline.v1.ProgramThresholds has them, checked. Pure.
import type { ThresholdDraft } from './metadata.ts';

/** Notes that a field is wrong. */
export type Refuse = (field: string, description: string) => void;

/** A longline.v1.ProgramThresholds. */
export interface ThresholdsMessage {
  readonly maxErrors?: bigint | undefined;
  readonly maxViolations?: bigint | undefined;
  readonly maxCpuPercent?: number | undefined;
  readonly maxLatencyMs?: number | undefined;
  readonly maxMemoryKb?: bigint | undefined;
  readonly minRuns?: bigint | undefined;
}

/** Of one processor: no host has ten thousand. */
const MAX_CPU_PERCENT = 1_000_000;
const MAX_LATENCY_MS = 3_600_000;

/** Reads thresholds; `at` is the field they stand in. What is wrong is noted and left out. */
export function readThresholds(message: ThresholdsMessage | undefined, at: string, refuse: Refuse): ThresholdDraft {
  if (message === undefined) return {};
  const count = (field: string, value: bigint | undefined) => {
    if (value === undefined) return undefined;
    if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
    refuse(`${at}.${field}`, `got ${value}; must be at most ${Number.MAX_SAFE_INTEGER}`);
    return undefined;
  };
  const real = (field: string, value: number | undefined, most: number) => {
    if (value === undefined || (value >= 0 && value <= most)) return value;
    refuse(`${at}.${field}`, `got ${value}; must be a number from 0, which switches it off, to ${most}`);
    return undefined;
  };
  return {
    maxErrors: count('max_errors', message.maxErrors),
    maxViolations: count('max_violations', message.maxViolations),
    maxCpuPercent: real('max_cpu_percent', message.maxCpuPercent, MAX_CPU_PERCENT),
    maxLatencyMs: real('max_latency_ms', message.maxLatencyMs, MAX_LATENCY_MS),
    maxMemoryKb: count('max_memory_kb', message.maxMemoryKb),
    minRuns: count('min_runs', message.minRuns),
  };
}

/** The message of thresholds; undefined if none is set. */
export function thresholdsMessage(draft: ThresholdDraft): ThresholdsMessage | undefined {
  const { maxErrors, maxViolations, maxCpuPercent, maxLatencyMs, maxMemoryKb, minRuns } = draft;
  const message: ThresholdsMessage = {
    ...(maxErrors !== undefined && { maxErrors: BigInt(maxErrors) }),
    ...(maxViolations !== undefined && { maxViolations: BigInt(maxViolations) }),
    ...(maxCpuPercent !== undefined && { maxCpuPercent }),
    ...(maxLatencyMs !== undefined && { maxLatencyMs }),
    ...(maxMemoryKb !== undefined && { maxMemoryKb: BigInt(maxMemoryKb) }),
    ...(minRuns !== undefined && { minRuns: BigInt(minRuns) }),
  };
  return Object.keys(message).length === 0 ? undefined : message;
}

/** The first that says something, for each threshold by itself. */
export function mergeThresholds(first: ThresholdDraft, then: ThresholdDraft): ThresholdDraft {
  return {
    maxErrors: first.maxErrors ?? then.maxErrors,
    maxViolations: first.maxViolations ?? then.maxViolations,
    maxCpuPercent: first.maxCpuPercent ?? then.maxCpuPercent,
    maxLatencyMs: first.maxLatencyMs ?? then.maxLatencyMs,
    maxMemoryKb: first.maxMemoryKb ?? then.maxMemoryKb,
    minRuns: first.minRuns ?? then.minRuns,
  };
}

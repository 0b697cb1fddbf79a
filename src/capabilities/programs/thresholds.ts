// When a program does what it shouldn't: the thresholds that hold for it, and whether figures exceed one. Pure. Counts are judged by
// what came between two looks and never by totals; CPU and latency only by enough runs; what can't be told is not judged.
import type { ThresholdDraft } from '../../core/programs/metadata.ts';
import type { RollbackTrigger } from '../../core/programs/program-state.ts';
import type { Thresholds } from './config.ts';
import type { ProgramFigures } from './figures.ts';

/** A threshold that was exceeded. */
export interface Breach {
  readonly trigger: Extract<RollbackTrigger, 'errors' | 'violations' | 'cpu' | 'latency' | 'memory'>;
  /** The threshold as it was set. */
  readonly threshold: number;
  /** What was seen. */
  readonly value: number;
  /** For people. */
  readonly reason: string;
}

/** How figures of other than the usual time are judged. */
export interface Look {
  /** The usual time between two looks. */
  readonly checkIntervalMs: number;
  /**
   * True holds counts of a shorter time to their share, and asks for that share of the least sample: for the look at the end of a
   * delay, which asks whether it goes on. False takes the whole of both for any time up to the interval.
   */
  readonly inProportion: boolean;
}

/** The host's thresholds where neither spec nor artifact says anything; the spec goes before the artifact. */
export function resolveThresholds(spec: ThresholdDraft, artifact: ThresholdDraft, host: Thresholds): Thresholds {
  const pick = (key: keyof Thresholds): number => spec[key] ?? artifact[key] ?? host[key];
  return {
    maxErrors: pick('maxErrors'),
    maxViolations: pick('maxViolations'),
    maxCpuPercent: pick('maxCpuPercent'),
    maxLatencyMs: pick('maxLatencyMs'),
    maxMemoryKb: pick('maxMemoryKb'),
    minRuns: pick('minRuns'),
  };
}

/** The first threshold that is exceeded, in the order errors, violations, CPU, latency, memory; undefined if none is. */
export function judge(figures: ProgramFigures, thresholds: Thresholds, look: Look): Breach | undefined {
  const { maxErrors, maxViolations, maxCpuPercent, maxLatencyMs, maxMemoryKb, minRuns } = thresholds;
  const { runs, cpuPercent, latencyMs, memoryKb } = figures;
  const enoughRuns = runs > 0n && Number(runs) >= minRuns * Math.min(1, shareOf(figures.elapsedMs, look));
  return (
    judgeCount('errors', figures.errorsDelta, maxErrors, figures.elapsedMs, look) ??
    judgeCount('violations', figures.violationsDelta, maxViolations, figures.elapsedMs, look) ??
    (enoughRuns
      ? (judgeValue('cpu', cpuPercent, maxCpuPercent, `% of a processor over ${runs} runs`) ??
        judgeValue('latency', latencyMs, maxLatencyMs, `ms for a call in the mean of ${runs}`))
      : undefined) ??
    judgeValue('memory', memoryKb, maxMemoryKb, 'KiB in functions and maps')
  );
}

function judgeCount(
  trigger: 'errors' | 'violations',
  count: bigint | undefined,
  threshold: number,
  elapsedMs: number,
  look: Look,
): Breach | undefined {
  if (count === undefined || !exceeds(Number(count), threshold * shareOf(elapsedMs, look))) return undefined;
  const allowed = `at most ${threshold} in ${seconds(look.checkIntervalMs)} are allowed`;
  return {
    trigger,
    threshold,
    value: Number(count),
    reason: `${count} ${trigger} in ${seconds(elapsedMs)}; ${allowed}`,
  };
}

function judgeValue(trigger: Breach['trigger'], value: number, threshold: number, unit: string): Breach | undefined {
  if (!exceeds(value, threshold)) return undefined;
  return {
    trigger,
    threshold,
    value,
    reason: `${Number(value.toPrecision(3))} ${unit}; at most ${threshold} is allowed`,
  };
}

/** How much of the allowance of one interval a time has. More time has more: a host that slept must not be taken for a program in trouble. */
function shareOf(elapsedMs: number, { checkIntervalMs, inProportion }: Look): number {
  const ratio = elapsedMs / checkIntervalMs;
  return inProportion ? ratio : Math.max(1, ratio);
}

/** A threshold of 0 is off. */
function exceeds(value: number, threshold: number): boolean {
  return threshold > 0 && value > threshold;
}

function seconds(ms: number): string {
  return `${Number((ms / 1000).toFixed(1))} s`;
}

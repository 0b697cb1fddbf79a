// How a family of figures is written down: one line each in the list of a process. Pure.
import type { MetricDefinition, MetricType } from './metric.ts';

/** What may be said of a family beside name, help and labels. */
export interface DefinitionOptions {
  /** Series beside the one of all others; 64 unless it is said. */
  readonly maxSeries?: number;
  /** "most" where adding up makes no sense, as for ages. */
  readonly rest?: 'sum' | 'most';
  readonly buckets?: readonly number[];
}

const DEFAULT_SERIES = 64;
const UNITS = ['seconds', 'bytes', 'ratio'];

/** From a millisecond to a minute. */
export const LATENCY_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** From ten milliseconds to a day, for what takes its time. */
export const DURATION_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 86_400];

/** A counter: "longline_…_total". */
export function counter(
  name: string,
  help: string,
  labels: readonly string[] = [],
  options: DefinitionOptions = {},
): MetricDefinition {
  return definition('counter', name, help, labels, options);
}

/** A gauge. */
export function gauge(
  name: string,
  help: string,
  labels: readonly string[] = [],
  options: DefinitionOptions = {},
): MetricDefinition {
  return definition('gauge', name, help, labels, options);
}

/** A histogram, by default of latencies. */
export function histogram(
  name: string,
  help: string,
  labels: readonly string[] = [],
  options: DefinitionOptions = {},
): MetricDefinition {
  return definition('histogram', name, help, labels, { buckets: LATENCY_SECONDS, ...options });
}

function definition(
  type: MetricType,
  name: string,
  help: string,
  labels: readonly string[],
  { maxSeries = DEFAULT_SERIES, rest = 'sum', buckets = [] }: DefinitionOptions,
): MetricDefinition {
  const last = name
    .replace(/_total$/, '')
    .split('_')
    .at(-1)!;
  const unit = UNITS.includes(last) ? last : '';
  return Object.freeze({ name, type, help, unit, labels, buckets, maxSeries, rest });
}

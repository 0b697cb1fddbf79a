// Figures of a process: what they are called, what they are, and how they are held. Pure, and free until somebody asks: whoever has
// figures already is asked by a collector, and only what is known at no other moment than when it happens is counted as it happens.
// Every family has a bound of series: what is more goes to one series whose labels all say "other", and is counted, so that no name of
// a job, a network or a program can make a process or its scraper grow.

/** What a figure does: only grows; goes up and down; or is a distribution. */
export type MetricType = 'counter' | 'gauge' | 'histogram';

/** What a family of figures is. */
export interface MetricDefinition {
  /** As it is exposed: with its unit, and "_total" for counters. */
  readonly name: string;
  readonly type: MetricType;
  /** One sentence. */
  readonly help: string;
  /** "seconds", "bytes", "ratio"; empty for things that are counted. */
  readonly unit: string;
  /** In the order in which values are given. */
  readonly labels: readonly string[];
  /** Upper bounds of a histogram, ascending, without infinity. */
  readonly buckets: readonly number[];
  /** Series beside the one of all others. */
  readonly maxSeries: number;
  /** What the series of all others holds of those in it. */
  readonly rest: 'sum' | 'most';
}

/** A distribution. */
export interface Distribution {
  /** Observations up to each bound, and beyond the last: one more than there are bounds. Not cumulative. */
  readonly counts: readonly number[];
  readonly sum: number;
}

/** One series at one moment. */
export interface MetricSample {
  /** In the order of the definition's labels. */
  readonly labels: readonly string[];
  readonly value: number | Distribution;
}

/** A family at one moment. */
export interface MetricFamily {
  readonly definition: MetricDefinition;
  readonly samples: readonly MetricSample[];
}

/** Gives figures that somebody holds already. Asked for each scrape: it must be cheap. */
export interface MetricCollector {
  /** In the figure that counts its failures. */
  readonly name: string;
  /** In place of the registry's limit, for what has a longer one of its own. */
  readonly limitMs?: number;
  collect(): Iterable<MetricFamily> | Promise<Iterable<MetricFamily>>;
}

/** A figure that only grows. */
export interface Counter {
  /** `by` is not negative; label values in the order of the definition. */
  add(by: number, ...labels: readonly string[]): void;
}

/** A figure that goes up and down. */
export interface Gauge {
  add(by: number, ...labels: readonly string[]): void;
}

/** A distribution. */
export interface Histogram {
  observe(value: number, ...labels: readonly string[]): void;
}

/** Label value of the series that holds what has no series of its own. */
export const OTHER = 'other';

const LONGEST_LABEL = 128;

/** A label value, bounded in length, and whole where it is cut. */
export function labelValue(text: string): string {
  return text.length <= LONGEST_LABEL ? text.toWellFormed() : `${text.slice(0, LONGEST_LABEL - 1)}…`.toWellFormed();
}

/** Tells series of one family apart. */
export function seriesKey(labels: readonly string[]): string {
  return labels.length === 1 ? labels[0]! : JSON.stringify(labels);
}

/** A family of numbers that a collector gives; samples without a value are left out. */
export function family(
  definition: MetricDefinition,
  samples: Iterable<readonly [value: number | undefined, ...labels: string[]]>,
): MetricFamily {
  const given: MetricSample[] = [];
  for (const [value, ...labels] of samples) if (value !== undefined) given.push({ labels, value });
  return { definition, samples: given };
}

/** A family of one number, or of none. */
export function figure(definition: MetricDefinition, value: number | undefined): MetricFamily {
  return family(definition, [[value]]);
}

/** A family of which each of some states is 1 or 0. */
export function oneOf(definition: MetricDefinition, states: readonly string[], state: string): MetricFamily {
  return family(
    definition,
    states.map((one) => [Number(one === state), one]),
  );
}

// Counters, gauges and histograms that are counted as things happen, each with its bound of series. Pure.
import { LonglineError } from '../errors.ts';
import {
  type Counter,
  type Distribution,
  type Gauge,
  type Histogram,
  labelValue,
  type MetricDefinition,
  type MetricFamily,
  OTHER,
  seriesKey,
} from './metric.ts';

/** Hears each time that a value went to the series of all others. */
export type OnOverflow = (definition: MetricDefinition) => void;

interface Series<T> {
  readonly labels: readonly string[];
  value: T;
}

/** Series of one family. The first to come have their own. */
class SeriesTable<T> {
  readonly definition: MetricDefinition;
  readonly #onOverflow: OnOverflow;
  readonly #first: () => T;
  readonly #series = new Map<string, Series<T>>();
  #rest: Series<T> | undefined;

  constructor(definition: MetricDefinition, onOverflow: OnOverflow, first: () => T) {
    this.definition = definition;
    this.#onOverflow = onOverflow;
    this.#first = first;
    // What has one series is there from the start, so that its rate is known from the start.
    if (definition.labels.length === 0) this.of([]);
  }

  of(labels: readonly string[]): Series<T> {
    const { name, labels: names, maxSeries } = this.definition;
    if (labels.length !== names.length) {
      throw new LonglineError('internal', `${name} has the labels [${names.join(', ')}]; given were ${labels.length}`);
    }
    const values = labels.map(labelValue);
    const key = seriesKey(values);
    const known = this.#series.get(key);
    if (known !== undefined) return known;
    if (this.#series.size >= maxSeries) {
      this.#onOverflow(this.definition);
      this.#rest ??= { labels: names.map(() => OTHER), value: this.#first() };
      return this.#rest;
    }
    const series = { labels: values, value: this.#first() };
    this.#series.set(key, series);
    return series;
  }

  all(): readonly Series<T>[] {
    return this.#rest === undefined ? [...this.#series.values()] : [...this.#series.values(), this.#rest];
  }
}

/** A counter or gauge with its series. */
export class NumberSeries implements Counter, Gauge {
  readonly #table: SeriesTable<number>;

  constructor(definition: MetricDefinition, onOverflow: OnOverflow) {
    this.#table = new SeriesTable(definition, onOverflow, () => 0);
  }

  add(by: number, ...labels: readonly string[]): void {
    this.#table.of(labels).value += by;
  }

  family(): MetricFamily {
    const samples = this.#table.all().map(({ labels, value }) => ({ labels, value }));
    return { definition: this.#table.definition, samples };
  }
}

/** A histogram with its series. */
export class DistributionSeries implements Histogram {
  readonly #table: SeriesTable<{ counts: number[]; sum: number }>;

  constructor(definition: MetricDefinition, onOverflow: OnOverflow) {
    const first = () => ({ counts: new Array<number>(definition.buckets.length + 1).fill(0), sum: 0 });
    this.#table = new SeriesTable(definition, onOverflow, first);
  }

  /** What is no number is not counted; what is negative, as after a clock went back, counts as 0. */
  observe(value: number, ...labels: readonly string[]): void {
    if (Number.isNaN(value)) return;
    const seen = Math.max(0, value);
    const distribution = this.#table.of(labels).value;
    const { buckets } = this.#table.definition;
    let index = 0;
    while (index < buckets.length && seen > buckets[index]!) index += 1;
    distribution.counts[index]! += 1;
    distribution.sum += seen;
  }

  family(): MetricFamily {
    const samples = this.#table.all().map(({ labels, value }) => {
      const copy: Distribution = { counts: [...value.counts], sum: value.sum };
      return { labels, value: copy };
    });
    return { definition: this.#table.definition, samples };
  }
}

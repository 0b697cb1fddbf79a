// All figures of one process. It asks collectors when it is asked itself, all at once and each within a limit: one that fails or hangs
// costs its own figures and is counted, and one that hangs isn't asked again before it has answered. However many ask at one time, there
// is one look.
import type { Clock } from '../clock.ts';
import { LonglineError } from '../errors.ts';
import { BoundedFamily } from './bounded-family.ts';
import {
  type Counter,
  family,
  type Gauge,
  type Histogram,
  type MetricCollector,
  type MetricDefinition,
  type MetricFamily,
} from './metric.ts';
import { DistributionSeries, NumberSeries } from './metric-series.ts';

/** What a registry tells of itself. */
export interface RegistryDefinitions {
  /** Labelled by metric. */
  readonly overflows: MetricDefinition;
  /** Labelled by collector. */
  readonly failures: MetricDefinition;
}

/** What a registry is made from. */
export interface MetricRegistryOptions {
  readonly own: RegistryDefinitions;
  readonly clock: Clock;
  /** Hears why a collector gave nothing; must not throw. */
  readonly onFailure: (collector: string, error: unknown) => void;
  readonly limitMs?: number;
}

const LIMIT_MS = 2_000;

/** One per process, or per part that is asked by itself. Holds nothing that has to be let go of. */
export class MetricRegistry {
  readonly #options: MetricRegistryOptions;
  readonly #held = new Map<string, NumberSeries | DistributionSeries>();
  readonly #collectors = new Set<MetricCollector>();
  readonly #asked = new Map<MetricCollector, Promise<readonly MetricFamily[]>>();
  readonly #bounds = new Map<string, BoundedFamily>();
  readonly #overflows = new Map<string, number>();
  readonly #failures = new Map<string, number>();
  #looking: Promise<readonly MetricFamily[]> | undefined;

  constructor(options: MetricRegistryOptions) {
    this.#options = options;
  }

  /** A counter of this registry. Throws `internal` for a name that it has. */
  counter(definition: MetricDefinition): Counter {
    return this.#hold(definition, new NumberSeries(definition, this.#overflowed));
  }

  /** A gauge of this registry. Throws `internal` for a name that it has. */
  gauge(definition: MetricDefinition): Gauge {
    return this.#hold(definition, new NumberSeries(definition, this.#overflowed));
  }

  /** A histogram of this registry. Throws `internal` for a name that it has. */
  histogram(definition: MetricDefinition): Histogram {
    return this.#hold(definition, new DistributionSeries(definition, this.#overflowed));
  }

  /** Asks this one too, until what is returned is disposed. */
  add(collector: MetricCollector): Disposable {
    this.#collectors.add(collector);
    return { [Symbol.dispose]: () => void this.#collectors.delete(collector) };
  }

  /** All figures now, in the order of names; within the limit, and with whatever could be had by then. Never throws. */
  async collect(): Promise<readonly MetricFamily[]> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return await this.#looking;
  }

  readonly #overflowed = ({ name }: MetricDefinition, by = 1): void => {
    this.#overflows.set(name, (this.#overflows.get(name) ?? 0) + by);
  };

  #hold<T extends NumberSeries | DistributionSeries>(definition: MetricDefinition, series: T): T {
    const { name } = definition;
    if (this.#held.has(name)) throw new LonglineError('internal', `the metric ${name} is counted in two places`);
    this.#held.set(name, series);
    return series;
  }

  async #look(): Promise<readonly MetricFamily[]> {
    const asked = await Promise.all([...this.#collectors].map((collector) => this.#ask(collector)));
    const byName = new Map<string, MetricFamily>();
    for (const one of [...[...this.#held.values()].map((series) => series.family()), ...asked.flat()]) {
      const known = byName.get(one.definition.name);
      byName.set(
        one.definition.name,
        known === undefined ? one : { ...one, samples: [...known.samples, ...one.samples] },
      );
    }
    const bounded = [...byName.values()].map((one) => this.#bound(one));
    const { overflows, failures } = this.#options.own;
    const own = [
      family(
        overflows,
        [...this.#overflows].map(([name, count]) => [count, name]),
      ),
      family(
        failures,
        [...this.#collectors].map(({ name }) => [this.#failures.get(name) ?? 0, name]),
      ),
    ];
    return [...bounded, ...own]
      .filter(({ samples }) => samples.length > 0)
      .sort((a, b) => (a.definition.name < b.definition.name ? -1 : 1));
  }

  #bound(given: MetricFamily): MetricFamily {
    const { name } = given.definition;
    // What is counted here is within its bound already, with its series of all others.
    if (this.#held.has(name)) return given;
    const bound = this.#bounds.get(name) ?? new BoundedFamily();
    this.#bounds.set(name, bound);
    const { family: taken, overflowed } = bound.take(given);
    if (overflowed > 0) this.#overflowed(given.definition, overflowed);
    return taken;
  }

  async #ask(collector: MetricCollector): Promise<readonly MetricFamily[]> {
    const { clock, onFailure } = this.#options;
    const limitMs = collector.limitMs ?? this.#options.limitMs ?? LIMIT_MS;
    const over = new AbortController();
    try {
      if (this.#asked.has(collector)) throw new LonglineError('late', 'it has not answered the look before yet');
      const answer = (async () => [...(await collector.collect())])();
      this.#asked.set(collector, answer);
      const forget = () => void this.#asked.delete(collector);
      answer.then(forget, forget);
      const late = clock.sleep(limitMs, over.signal).then(
        () => {
          throw new LonglineError('late', `no figures in ${limitMs} ms`);
        },
        () => [],
      );
      return await Promise.race([answer, late]);
    } catch (error) {
      this.#failures.set(collector.name, (this.#failures.get(collector.name) ?? 0) + 1);
      onFailure(collector.name, error);
      return [];
    } finally {
      over.abort();
    }
  }
}

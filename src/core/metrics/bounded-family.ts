// The bound of series for families that collectors give anew each time. Pure.
import {
  type Distribution,
  labelValue,
  type MetricDefinition,
  type MetricFamily,
  type MetricSample,
  OTHER,
  seriesKey,
} from './metric.ts';

/**
 * Keeps the bound of one family from look to look: a series that had a place keeps it as long as it is there, and only then another
 * one gets it, so that counters don't jump.
 */
export class BoundedFamily {
  #admitted: ReadonlySet<string> = new Set();

  /** The family within its bound, and how many series went to that of all others. Series that are given twice are added up. */
  take({ definition, samples }: MetricFamily): { readonly family: MetricFamily; readonly overflowed: number } {
    const given = new Map<string, MetricSample>();
    for (const sample of samples) {
      const labels = sample.labels.map(labelValue);
      const key = seriesKey(labels);
      const known = given.get(key);
      const value = known === undefined ? sample.value : joined(definition, known.value, sample.value);
      given.set(key, { labels, value });
    }
    const admitted = new Set([...this.#admitted].filter((key) => given.has(key)));
    for (const key of given.keys()) {
      if (admitted.size >= definition.maxSeries) break;
      admitted.add(key);
    }
    this.#admitted = admitted;
    if (admitted.size === given.size) return { family: { definition, samples: [...given.values()] }, overflowed: 0 };
    const kept: MetricSample[] = [];
    let rest: MetricSample['value'] | undefined;
    for (const [key, sample] of given) {
      if (admitted.has(key)) kept.push(sample);
      else rest = rest === undefined ? sample.value : joined(definition, rest, sample.value);
    }
    const labels = definition.labels.map(() => OTHER);
    return {
      family: { definition, samples: [...kept, { labels, value: rest! }] },
      overflowed: given.size - admitted.size,
    };
  }
}

function joined(
  { rest }: MetricDefinition,
  one: number | Distribution,
  other: number | Distribution,
): number | Distribution {
  if (typeof one === 'number' && typeof other === 'number') return rest === 'sum' ? one + other : Math.max(one, other);
  if (typeof one === 'number' || typeof other === 'number') return one;
  return { counts: one.counts.map((count, at) => count + (other.counts[at] ?? 0)), sum: one.sum + other.sum };
}

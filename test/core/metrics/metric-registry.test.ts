import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../../../src/core/clock.ts';
import { BoundedFamily } from '../../../src/core/metrics/bounded-family.ts';
import { counter, gauge, histogram } from '../../../src/core/metrics/definition.ts';
import { family, figure, labelValue, type MetricFamily, OTHER } from '../../../src/core/metrics/metric.ts';
import { MetricRegistry } from '../../../src/core/metrics/metric-registry.ts';

const OWN = {
  overflows: counter('own_overflows_total', 'Overflows.', ['metric']),
  failures: counter('own_failures_total', 'Failures.', ['collector']),
};

function registryOf(limitMs = 2_000) {
  const failed: string[] = [];
  const onFailure = (collector: string, error: unknown) => failed.push(`${collector}: ${String(error)}`);
  return { failed, registry: new MetricRegistry({ own: OWN, clock: systemClock, onFailure, limitMs }) };
}

function valuesOf(families: readonly MetricFamily[], name: string): Record<string, unknown> {
  const found = families.find(({ definition }) => definition.name === name);
  return Object.fromEntries((found?.samples ?? []).map(({ labels, value }) => [labels.join(','), value]));
}

describe('registry of figures', () => {
  it('counts, and gives what it counted in the order of names', async () => {
    const { registry } = registryOf();
    const jobs = registry.counter(counter('jobs_total', 'Jobs.', ['outcome']));
    const running = registry.gauge(gauge('a_running', 'Running.'));
    jobs.add(2, 'succeeded');
    jobs.add(1, 'failed');
    running.add(3);
    running.add(-1);
    const families = await registry.collect();
    assert.deepEqual(valuesOf(families, 'jobs_total'), { succeeded: 2, failed: 1 });
    assert.deepEqual(
      families.map(({ definition }) => definition.name),
      ['a_running', 'jobs_total'],
    );
    assert.deepEqual(valuesOf(families, 'a_running'), { '': 2 });
  });

  it('puts observations into the first bucket that holds them, and takes no nonsense', async () => {
    const { registry } = registryOf();
    const seconds = registry.histogram(histogram('took_seconds', 'Took.', [], { buckets: [1, 2] }));
    for (const value of [-5, 0.5, 1, 1.5, 2, 99, Number.NaN]) seconds.observe(value);
    const { value } = (await registry.collect())[0]!.samples[0]!;
    assert.deepEqual(value, { counts: [3, 2, 1], sum: 104 });
  });

  it('gives no more series than it may, and counts what went to the others', async () => {
    const { registry } = registryOf();
    const seen = registry.counter(counter('seen_total', 'Seen.', ['name'], { maxSeries: 3 }));
    for (let index = 0; index < 10_000; index++) seen.add(1, `name-${index}`);
    seen.add(5, 'name-1');
    const families = await registry.collect();
    assert.deepEqual(valuesOf(families, 'seen_total'), { 'name-0': 1, 'name-1': 6, 'name-2': 1, [OTHER]: 9_997 });
    assert.deepEqual(valuesOf(families, 'own_overflows_total'), { seen_total: 9_997 });
  });

  it('bounds what collectors give as well, and label values', async () => {
    const { registry } = registryOf();
    const bytes = gauge('given_bytes', 'Given.', ['name'], { maxSeries: 2 });
    const names = ['x'.repeat(5_000), 'b', 'c', 'd'];
    registry.add({
      name: 'many',
      collect: () => [
        family(
          bytes,
          names.map((name) => [1, name]),
        ),
      ],
    });
    const families = await registry.collect();
    const given = valuesOf(families, 'given_bytes');
    assert.deepEqual(Object.values(given), [1, 1, 2]);
    assert.equal(labelValue('x'.repeat(5_000)).length, 128);
    assert.deepEqual(valuesOf(families, 'own_overflows_total'), { given_bytes: 2 });
  });

  it('gives the figures of the others when one fails or hangs, and does not ask that one again meanwhile', async () => {
    const { failed, registry } = registryOf(20);
    let asked = 0;
    const hanging = Promise.withResolvers<MetricFamily[]>();
    const up = figure(gauge('up', 'Up.'), 1);
    registry.add({ name: 'fine', collect: () => [up] });
    registry.add({
      name: 'broken',
      collect: () => {
        throw new Error('no');
      },
    });
    registry.add({
      name: 'hangs',
      collect: () => {
        asked += 1;
        return hanging.promise;
      },
    });
    const first = await registry.collect();
    assert.deepEqual(valuesOf(first, 'up'), { '': 1 });
    assert.deepEqual(valuesOf(first, 'own_failures_total'), { fine: 0, broken: 1, hangs: 1 });
    await registry.collect();
    assert.equal(asked, 1);
    hanging.resolve([]);
    await new Promise(setImmediate);
    const last = await registry.collect();
    assert.equal(valuesOf(last, 'own_failures_total')['hangs'], 2);
    assert.match(failed.join('\n'), /broken: Error: no/);
    assert.match(failed.join('\n'), /hangs: LonglineError: no figures in 20 ms/);
  });

  it('waits longer for a collector that says so', async () => {
    const { registry } = registryOf(20);
    const slow = (name: string, limitMs?: number) => ({
      name,
      ...(limitMs === undefined ? {} : { limitMs }),
      collect: async () => {
        await new Promise((resolve) => setTimeout(resolve, 100));
        return [figure(gauge(name, 'Slow.'), 1)];
      },
    });
    registry.add(slow('patient', 60_000));
    registry.add(slow('hasty'));
    const families = await registry.collect();
    assert.deepEqual(valuesOf(families, 'own_failures_total'), { patient: 0, hasty: 1 });
    assert.deepEqual(valuesOf(families, 'patient'), { '': 1 });
  });

  it('looks once for all who ask at one time', async () => {
    const { registry } = registryOf();
    let looks = 0;
    registry.add({
      name: 'counted',
      collect: () => {
        looks += 1;
        return [];
      },
    });
    await Promise.all([registry.collect(), registry.collect(), registry.collect()]);
    assert.equal(looks, 1);
  });

  it('refuses one name in two places, and wrong numbers of labels', () => {
    const { registry } = registryOf();
    const definition = counter('once_total', 'Once.', ['a']);
    const once = registry.counter(definition);
    assert.throws(() => registry.counter(definition), /once_total is counted in two places/);
    assert.throws(() => once.add(1), /once_total has the labels \[a\]; given were 0/);
  });
});

describe('bound of a family', () => {
  const definition = counter('n_total', 'N.', ['name'], { maxSeries: 4 });
  const looks = fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 12 }), { maxLength: 12 }), { maxLength: 8 });

  it('holds in every look, loses nothing, and moves no series that stays', () => {
    fc.assert(
      fc.property(looks, (all) => {
        const bound = new BoundedFamily();
        let before = new Set<string>();
        for (const names of all) {
          const { family: taken, overflowed } = bound.take(
            family(
              definition,
              names.map((name) => [1, `${name}`]),
            ),
          );
          const own = new Set(taken.samples.map(({ labels }) => labels[0]!).filter((name) => name !== OTHER));
          const total = taken.samples.reduce((sum, { value }) => sum + (value as number), 0);
          assert.equal(total, names.length);
          assert.equal(own.size, Math.min(names.length, 4));
          assert.equal(overflowed, names.length - own.size);
          for (const name of before) if (names.includes(Number(name))) assert.ok(own.has(name));
          before = own;
        }
      }),
    );
  });

  it('takes the most where adding up makes no sense', () => {
    const age = gauge('age_seconds', 'Age.', ['name'], { maxSeries: 1, rest: 'most' });
    const { samples } = new BoundedFamily().take(
      family(age, [
        [1, 'a'],
        [7, 'b'],
        [3, 'c'],
      ]),
    ).family;
    assert.deepEqual(samples, [
      { labels: ['a'], value: 1 },
      { labels: [OTHER], value: 7 },
    ]);
  });
});

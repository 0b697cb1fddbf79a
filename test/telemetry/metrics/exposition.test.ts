import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { counter, gauge, histogram } from '../../../src/core/metrics/definition.ts';
import { family, figure, type MetricFamily } from '../../../src/core/metrics/metric.ts';
import { AGENT_METRICS } from '../../../src/telemetry/metrics/agent-names.ts';
import { CONTROLLER_METRICS } from '../../../src/telemetry/metrics/controller-names.ts';
import { expose, formatOf } from '../../../src/telemetry/metrics/exposition.ts';

const FAMILIES: readonly MetricFamily[] = [
  family(counter('jobs_total', 'Jobs, by "how"\nand why \\.', ['how']), [
    [2, 'say "hi"\n\\'],
    [Number.POSITIVE_INFINITY, ''],
  ]),
  figure(gauge('spool_bytes', 'Bytes.'), 1.5e21),
  {
    definition: histogram('took_seconds', 'Took.', ['way'], { buckets: [0.5, 1] }),
    samples: [{ labels: ['up'], value: { counts: [1, 0, 2], sum: 7.25 } }],
  },
  family(gauge('none', 'Nothing.', ['a']), []),
];

const TEXT = `# HELP jobs_total Jobs, by "how"\\nand why \\\\.
# TYPE jobs_total counter
jobs_total{how="say \\"hi\\"\\n\\\\"} 2
jobs_total{how=""} +Inf
# HELP spool_bytes Bytes.
# TYPE spool_bytes gauge
spool_bytes 1.5e+21
# HELP took_seconds Took.
# TYPE took_seconds histogram
took_seconds_bucket{way="up",le="0.5"} 1
took_seconds_bucket{way="up",le="1.0"} 1
took_seconds_bucket{way="up",le="+Inf"} 3
took_seconds_sum{way="up"} 7.25
took_seconds_count{way="up"} 3
`;

describe('exposition', () => {
  it('writes the text format', () => {
    assert.deepEqual(expose(FAMILIES, 'text'), { type: 'text/plain; version=0.0.4; charset=utf-8', body: TEXT });
    assert.equal(expose([], 'text').body, '');
  });

  it('writes OpenMetrics: families without "_total", units, and the end', () => {
    const { type, body } = expose(FAMILIES, 'openmetrics');
    assert.equal(type, 'application/openmetrics-text; version=1.0.0; charset=utf-8');
    assert.match(body, /^# HELP jobs Jobs, by \\"how\\"\\nand why \\\\\.\n# TYPE jobs counter\njobs_total\{/);
    assert.match(body, /# TYPE spool_bytes gauge\n# UNIT spool_bytes bytes\n/);
    assert.ok(body.endsWith('# EOF\n'));
  });

  it('gives OpenMetrics to those only who want it at least as much as text', () => {
    const prometheus =
      'application/openmetrics-text;version=1.0.0;q=0.75,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.25,*/*;q=0.1';
    assert.equal(formatOf(prometheus), 'openmetrics');
    assert.equal(formatOf('Application/OpenMetrics-Text'), 'openmetrics');
    for (const accept of [
      undefined,
      '',
      '*/*',
      'text/html',
      'application/openmetrics-text;q=0',
      ';;;,q=x',
      'text/plain,application/openmetrics-text;q=0.5',
    ]) {
      assert.equal(formatOf(accept), 'text', String(accept));
    }
  });
});

const LISTS = { agent: AGENT_METRICS, controller: CONTROLLER_METRICS };

describe('names of figures', () => {
  it('are those that Prometheus wants, each once, with unit and help', () => {
    for (const list of Object.values(LISTS)) {
      const names = list.map(({ name }) => name);
      assert.equal(new Set(names).size, names.length);
    }
    for (const { name, type, help, labels, maxSeries } of Object.values(LISTS).flat()) {
      assert.match(name, /^(longline|process)_[a-z0-9_]+$/);
      assert.equal(name.endsWith('_total'), type === 'counter', name);
      assert.match(help, /^[A-Z1].*[.]$/, name);
      for (const label of labels) assert.match(label, /^[a-z_]+$/);
      assert.ok(maxSeries <= 1000, name);
    }
  });

  it('pass the linter of promtool', async (t) => {
    if (spawnSync('promtool', ['--version']).error !== undefined)
      return t.skip('promtool is missing: apt package prometheus');
    const all = new Map(
      Object.values(LISTS)
        .flat()
        .map((one) => [one.name, one]),
    );
    const families = [...all.values()].map((definition): MetricFamily => {
      const value = definition.type === 'histogram' ? { counts: definition.buckets.map(() => 1).concat(1), sum: 1 } : 1;
      return { definition, samples: [{ labels: definition.labels.map((label) => `a ${label}`), value }] };
    });
    const { code, output } = await lint(expose(families, 'text').body);
    assert.equal(code, 0, output);
    assert.equal(output, '');
    const wrong = await lint(expose([figure(counter('jobs', 'Jobs.'), 1)], 'text').body);
    assert.match(wrong.output, /counter metrics should have "_total" suffix/);
  });
});

async function lint(body: string): Promise<{ readonly code: number; readonly output: string }> {
  const { promise, resolve } = Promise.withResolvers<{ readonly code: number; readonly output: string }>();
  const child = execFile('promtool', ['check', 'metrics'], (error, stdout, stderr) =>
    resolve({ code: Number(error?.code ?? 0), output: stdout + stderr }),
  );
  child.stdin!.end(body);
  return await promise;
}

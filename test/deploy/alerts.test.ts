// Every alert rule fires on series that mean trouble, not before its time and with what people are to read, and is silent on those that
// mean none: as promtool, Prometheus' own engine, has it.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { AGENT_METRICS } from '../../src/telemetry/metrics/agent-names.ts';
import { CONTROLLER_METRICS } from '../../src/telemetry/metrics/controller-names.ts';
import { prometheusMissing, promtool } from '../fixtures/prometheus.ts';
import { ALERT_CASES, type AlertCase } from './alert-cases.ts';

const RULES = join(import.meta.dirname, '../../deploy/grafana/alerts.yaml');
/** Minutes. */
const HOUR = 60;
const LATE = 45;

interface Rule {
  readonly name: string;
  readonly severity: string;
  /** Minutes that it must have held. */
  readonly forMinutes: number;
  readonly runbook: string;
  /** As it stands in the file. */
  readonly text: string;
}

/** The rules, as far as they are needed here; the file keeps to one form. */
function rulesOf(text: string): readonly Rule[] {
  return text
    .split(/^(?= {6}- alert: )|^ {2}- name: .*\n {4}rules:\n/m)
    .slice(1)
    .filter((rule) => rule !== '')
    .map((rule) => {
      const name = /^ {6}- alert: (\w+)\n/.exec(rule)?.[1];
      const severity = /^ {8}labels: \{ severity: (\w+) \}$/m.exec(rule)?.[1];
      const [, inline, folded] = /^ {10}runbook: (?:(?!>-)(.+)|>-\n((?: {12}.+\n?)+))/m.exec(rule) ?? [];
      const runbook =
        inline ??
        folded
          ?.trim()
          .split(/\s*\n\s*/)
          .join(' ');
      assert.ok(name !== undefined && severity !== undefined && runbook !== undefined, rule);
      return { name, severity, forMinutes: Number(/^ {8}for: (\d+)m$/m.exec(rule)?.[1] ?? 0), runbook, text: rule };
    });
}

const inputs = (series: Readonly<Record<string, string>>) =>
  Object.entries(series).map(([one, values]) => ({
    series: one,
    values: /\+/.test(values) ? `${values}x${HOUR}` : `${values}+0x${HOUR}`,
  }));

/** Tests of one rule, as promtool reads them. */
function testsOf({ name, severity, forMinutes, runbook }: Rule, { trouble, labels, summary, calm }: AlertCase) {
  const at = (minutes: number, alerts: readonly object[]) => ({
    eval_time: `${minutes}m`,
    alertname: name,
    exp_alerts: alerts,
  });
  const fires = { exp_labels: { ...labels, severity }, exp_annotations: { summary, runbook } };
  const early = forMinutes > 0 ? [at(forMinutes - 1, [])] : [];
  return [
    {
      name: `${name} fires`,
      interval: '1m',
      input_series: inputs(trouble),
      alert_rule_test: [...early, at(LATE, [fires])],
    },
    {
      name: `${name} is silent`,
      interval: '1m',
      input_series: inputs(calm),
      alert_rule_test: [1, 10, 30, LATE, HOUR].map((minutes) => at(minutes, [])),
    },
  ];
}

describe('alert rules', { skip: prometheusMissing() ?? false }, () => {
  let rules: readonly Rule[];
  before(async () => {
    rules = rulesOf(await readFile(RULES, 'utf8'));
  });

  it('are right in form', () => {
    const { code, output } = promtool('check', 'rules', RULES);
    assert.equal(code, 0, output);
    assert.match(output, new RegExp(`${rules.length} rules found`));
  });

  it('have each a case, of series that there are', () => {
    assert.deepEqual(Object.keys(ALERT_CASES).toSorted(), rules.map(({ name }) => name).toSorted());
    const known = new Set(['up', ...[...AGENT_METRICS, ...CONTROLLER_METRICS].map(({ name }) => name)]);
    const labels = new Map([...AGENT_METRICS, ...CONTROLLER_METRICS].map((one) => [one.name, one.labels]));
    for (const { trouble, calm } of Object.values(ALERT_CASES)) {
      for (const one of [...Object.keys(trouble), ...Object.keys(calm)]) {
        const name = one.slice(0, one.indexOf('{')).replace(/_bucket$/, '');
        assert.ok(known.has(name), `${name} is not told by anybody`);
        const given = [...one.matchAll(/(\w+)="/g)].map(([, label]) => label!);
        const strange = given.filter(
          (label) => !['job', 'instance', 'le', ...(labels.get(name) ?? [])].includes(label),
        );
        assert.deepEqual(strange, [], one);
      }
    }
  });

  it('fire on trouble, in time and with what is to be read, and are silent else', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'll-alerts-'));
    try {
      const files: string[] = [];
      for (const rule of rules) {
        // Each by itself: all of them together would be asked for at each minute of each test.
        const [alone, file] = [`${rule.name}.yaml`, join(folder, `${rule.name}.test.yaml`)];
        await writeFile(join(folder, alone), `groups:\n  - name: alone\n    rules:\n${rule.text}`);
        // What is JSON is YAML.
        const tests = testsOf(rule, ALERT_CASES[rule.name]!);
        await writeFile(file, JSON.stringify({ rule_files: [alone], evaluation_interval: '1m', tests }));
        files.push(file);
      }
      const { code, output } = promtool('test', 'rules', ...files);
      assert.equal(code, 0, output);
      assert.equal(output.match(/SUCCESS/g)?.length, rules.length);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agentConfig } from '../../../src/agent/config.ts';
import { controllerConfig } from '../../../src/cli/commands/controller.ts';
import { dumpConfig, exampleFile, flagsOf, referencePage } from '../../../src/core/config/reference.ts';
import { resolveConfig } from '../../../src/core/config/resolve.ts';
import { type ConfigSchema, type SettingTable, settingsOf } from '../../../src/core/config/setting.ts';
import { editDistance, suggest } from '../../../src/core/config/suggestion.ts';

function checkTable<T extends SettingTable>(schema: ConfigSchema<T>): void {
  const plain = resolveConfig(schema, {});
  assert.ok(plain.ok);
  const example = exampleFile(schema);
  const asIs = resolveConfig(schema, { file: { path: 'example', text: example } });
  assert.ok(asIs.ok, 'the example as it is must change nothing');
  assert.deepEqual(asIs.config, plain.config);
  const secrets = new Set(
    settingsOf(schema.table).flatMap((one) => (one.setting.secret ? [`${one.setting.key}_file`] : [])),
  );
  let section = '';
  const opened = example
    .split('\n')
    .map((line) => (/^# [a-z_]+ = /.test(line) ? line.slice(2) : line))
    .filter((line) => {
      const heading = /^\[(.+)\]$/.exec(line)?.[1];
      if (heading !== undefined) section = `${heading}.`;
      return !secrets.has(`${section}${line.split(' ')[0]}`);
    })
    .join('\n');
  const all = resolveConfig(schema, { file: { path: 'example', text: opened } });
  assert.ok(all.ok, JSON.stringify(all.ok ? '' : all.problems));
  const page = referencePage(schema);
  for (const { setting } of settingsOf(schema.table)) {
    assert.ok(page.includes(`\`${setting.flag}\``), setting.flag);
    assert.ok(page.includes(setting.key), setting.key);
    if (setting.default === undefined) continue;
    assert.deepEqual(all.origins.get(setting.key), 'file example', setting.key);
  }
}

test('agent: the example file is right as it is and with every line opened; the page has every setting', () => {
  checkTable(agentConfig);
});

test('controller: the same', () => {
  checkTable(controllerConfig);
});

test('flags of secrets come with one for their file', () => {
  const flags = flagsOf(agentConfig).map((one) => one.flag);
  assert.ok(flags.includes('--token') && flags.includes('--token-file'));
  assert.equal(new Set(flags).size, flags.length);
});

test('a dump shows sources and no secrets', () => {
  const env = { LONGLINE_API_KEY: 'ab'.repeat(32), AGENT_ID: 'web-1' };
  const result = resolveConfig(agentConfig, { env });
  assert.ok(result.ok);
  const dump = dumpConfig(agentConfig, result.config, result.origins);
  assert.ok(!JSON.stringify(dump).includes('abab'));
  assert.deepEqual(
    dump.find((row) => row.key === 'agent_id'),
    { key: 'agent_id', value: '"web-1"', source: 'environment AGENT_ID' },
  );
  assert.equal(dump.find((row) => row.key === 'reconnect_cap')?.source, 'default');
});

test('agent: what the seeds of this system set is understood', () => {
  const env = {
    CONTROL_PLANE_URL: 'wss://control.example.com',
    AGENT_ID: 'a',
    REGION: 'eu',
  };
  const result = resolveConfig(agentConfig, { env });
  assert.ok(result.ok);
  assert.equal(result.config.controllerUrl, 'https://control.example.com');
  assert.equal(result.config.region, 'eu');
});

test('agent: limits below defaults and plain http are refused', () => {
  const small = resolveConfig(agentConfig, { env: { LONGLINE_JOBS_MAX_MEMORY: '64MiB' } });
  assert.ok(!small.ok && small.problems[0]!.key === 'jobs.default_memory');
  const plain = resolveConfig(agentConfig, { env: { LONGLINE_CONTROLLER: 'http://host' } });
  assert.ok(!plain.ok && /API key/.test(plain.problems[0]!.description));
});

test('a slip is near, anything else is not', () => {
  assert.equal(editDistance('agent', 'agnet'), 1);
  assert.equal(editDistance('', 'abc'), 3);
  assert.equal(suggest('heartbaet', ['heartbeat', 'region']), 'heartbeat');
  assert.equal(suggest('something', ['heartbeat', 'region']), undefined);
});

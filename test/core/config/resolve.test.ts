import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { type ConfigSources, configError, resolveConfig } from '../../../src/core/config/resolve.ts';
import { Secret } from '../../../src/core/config/secret.ts';
import { defineConfig, secret, setting } from '../../../src/core/config/setting.ts';
import * as type from '../../../src/core/config/value-type.ts';

const schema = defineConfig(
  'sample',
  {
    name: setting(type.string(), {
      key: 'name',
      group: 'A',
      envAliases: ['AGENT_ID'],
      default: 'host',
      description: 'Name.',
    }),
    key: secret({ key: 'api_key', group: 'A', pattern: /^[0-9a-f]{4}$/, allowed: '4 hex digits', description: 'Key.' }),
    labels: setting(type.map(/^[a-z]+=.*$/, 'KEY=VALUE'), {
      key: 'labels',
      group: 'A',
      flag: '--label',
      default: {},
      description: 'L.',
    }),
    jobs: {
      most: setting(type.int({ min: 1, max: 10 }), {
        key: 'jobs.max_concurrent',
        group: 'B',
        default: 5,
        description: 'Most.',
      }),
      least: setting(type.int({ min: 0, max: 10 }), {
        key: 'jobs.least',
        group: 'B',
        default: 0,
        description: 'Least.',
      }),
      waitMs: setting(type.duration({ min: 1000, max: 60_000 }), {
        key: 'jobs.wait',
        group: 'B',
        default: 3000,
        description: 'W.',
      }),
      images: setting(type.list(type.string()), { key: 'jobs.images', group: 'B', default: [], description: 'I.' }),
      warm: setting(type.bool(), { key: 'jobs.warm', group: 'B', default: false, description: 'Warm.' }),
    },
  },
  (config) =>
    config.jobs.least > config.jobs.most
      ? [{ key: 'jobs.least', description: 'is more than jobs.max_concurrent' }]
      : [],
);

function resolve(sources: ConfigSources) {
  const result = resolveConfig(schema, sources);
  assert.ok(result.ok, result.ok ? '' : JSON.stringify(result.problems));
  return result;
}

function problemsOf(sources: ConfigSources) {
  const result = resolveConfig(schema, sources);
  assert.ok(!result.ok, 'resolved although something is wrong');
  return result.problems;
}

const file = (text: string) => ({ path: '/etc/sample.toml', text });

test('flags win over environment over file over defaults', () => {
  const flags = new Map([['--jobs-max-concurrent', ['7']]]);
  const env = { LONGLINE_JOBS_MAX_CONCURRENT: '6' };
  const text = '[jobs]\nmax_concurrent = 4\n';
  assert.equal(resolve({ flags, env, file: file(text) }).config.jobs.most, 7);
  assert.equal(resolve({ env, file: file(text) }).config.jobs.most, 6);
  const fromFile = resolve({ file: file(text) });
  assert.equal(fromFile.config.jobs.most, 4);
  assert.equal(fromFile.origins.get('jobs.max_concurrent'), 'file /etc/sample.toml');
  assert.equal(resolve({}).config.jobs.most, 5);
});

test('every kind is read from flag, environment and file alike', () => {
  const text = 'name = "x"\nlabels = { zone = "eu" }\n[jobs]\nwait = 5\nimages = ["a", "b"]\nwarm = true\n';
  const flags = new Map([
    ['--name', ['x']],
    ['--label', ['zone=eu']],
    ['--jobs-wait', ['5s']],
    ['--jobs-images', ['a', 'b']],
    ['--jobs-warm', ['true']],
  ]);
  const env = {
    LONGLINE_NAME: 'x',
    LONGLINE_LABELS: 'zone=eu',
    LONGLINE_JOBS_WAIT: '5',
    LONGLINE_JOBS_IMAGES: 'a,b',
    LONGLINE_JOBS_WARM: 'yes',
  };
  const expected = resolve({ file: file(text) }).config;
  assert.deepEqual(expected.labels, { zone: 'eu' });
  assert.deepEqual(expected.jobs, { most: 5, least: 0, waitMs: 5000, images: ['a', 'b'], warm: true });
  assert.deepEqual(resolve({ flags }).config, expected);
  assert.deepEqual(resolve({ env }).config, expected);
});

test('the value is frozen through and through', () => {
  const { config } = resolve({ env: { LONGLINE_JOBS_IMAGES: 'a' } });
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.jobs) && Object.isFrozen(config.jobs.images));
});

test('an alias of the environment counts, ours wins, an empty variable is absent', () => {
  assert.equal(resolve({ env: { AGENT_ID: 'theirs' } }).config.name, 'theirs');
  assert.equal(resolve({ env: { AGENT_ID: 'theirs', LONGLINE_NAME: 'ours' } }).config.name, 'ours');
  assert.equal(resolve({ env: { AGENT_ID: '' } }).config.name, 'host');
});

test('a wrong value names key, value, source and range, all of them at once', () => {
  const problems = problemsOf({
    flags: new Map([['--jobs-wait', ['soon']]]),
    env: { LONGLINE_JOBS_WARM: 'maybe' },
    file: file('[jobs]\nmax_concurrent = 99\n'),
  });
  assert.deepEqual(
    problems.map(({ key, source }) => [key, source]),
    [
      ['jobs.max_concurrent', 'file /etc/sample.toml'],
      ['jobs.wait', 'flag --jobs-wait'],
      ['jobs.warm', 'environment LONGLINE_JOBS_WARM'],
    ],
  );
  assert.match(problems[0]!.description, /99 .*1 to 10/);
  assert.match(problems[1]!.description, /"soon" .*1s to 1m/);
  const error = configError(problems);
  assert.equal(error.reason, 'invalid');
  assert.equal(error.violations.length, 3);
});

test('a wrong flag is not covered up by a right file', () => {
  const flags = new Map([['--jobs-max-concurrent', ['0']]]);
  assert.equal(
    problemsOf({ flags, file: file('[jobs]\nmax_concurrent = 2') })[0]!.source,
    'flag --jobs-max-concurrent',
  );
});

test('unknown keys and flags are errors with a suggestion', () => {
  const [misspelt, table, flag] = problemsOf({
    file: file('[jobs]\nmax_concurent = 3\n[jobz]\nx = 1\n'),
    flags: new Map([['--nam', ['x']]]),
  });
  assert.match(misspelt!.description, /did you mean jobs\.max_concurrent\?/);
  assert.equal(table!.key, 'jobz');
  assert.match(flag!.description, /did you mean --name\?/);
});

test('a table where a value belongs and a value where a table belongs are errors', () => {
  assert.equal(problemsOf({ file: file('[name]\nx = 1\n') })[0]!.key, 'name');
  assert.equal(problemsOf({ file: file('jobs = 3\n') })[0]!.key, 'jobs');
});

test('what is no TOML is an error with its line', () => {
  const [problem] = problemsOf({ file: file('name = "x"\nname = = 2\n') });
  assert.equal(problem!.key, 'line 2');
});

test('an unknown variable that looks like a slip is a warning, others are left alone', () => {
  const { warnings } = resolve({ env: { LONGLINE_NAMES: 'x', LONGLINE_SERVICE_HOST: '10.0.0.1', PATH: '/bin' } });
  assert.deepEqual(warnings.length, 1);
  assert.match(warnings[0]!, /LONGLINE_NAMES .*LONGLINE_NAME\?/);
});

test('relations between settings are checked once each is right', () => {
  const [problem] = problemsOf({ env: { LONGLINE_JOBS_LEAST: '9' } });
  assert.deepEqual([problem!.key, problem!.source], ['jobs.least', 'environment LONGLINE_JOBS_LEAST']);
});

test('a secret comes from environment, flag or a file named there, never from the TOML file', () => {
  const readSecret = (path: string) => `${path === '/run/key' ? 'beef' : 'zzz'}\n`;
  assert.equal(resolve({ env: { LONGLINE_API_KEY: 'cafe' } }).config.key?.reveal(), 'cafe');
  assert.equal(resolve({ file: file('api_key_file = "/run/key"'), readSecret }).config.key?.reveal(), 'beef');
  const both = { flags: new Map([['--api-key-file', ['/run/key']]]), env: { LONGLINE_API_KEY: 'cafe' }, readSecret };
  assert.equal(resolve(both).config.key?.reveal(), 'beef');
  const [inline] = problemsOf({ file: file('api_key = "cafe"') });
  assert.match(inline!.description, /api_key_file/);
  const [bad] = problemsOf({ env: { LONGLINE_API_KEY_FILE: '/other' }, readSecret });
  assert.equal(bad!.key, 'api_key_file');
});

test('a secret that is wrong or can not be read is never shown', () => {
  const [wrong] = problemsOf({ env: { LONGLINE_API_KEY: 'hunter2' } });
  assert.ok(!JSON.stringify(wrong).includes('hunter2'));
  const readSecret = () => {
    throw new Error('others may read it');
  };
  assert.match(problemsOf({ env: { LONGLINE_API_KEY_FILE: '/x' }, readSecret })[0]!.description, /others may read it/);
});

test('a secret prints as redacted in every usual way', () => {
  const value = new Secret('hunter2');
  assert.ok(![`${value}`, JSON.stringify({ value }), inspect({ value })].some((text) => text.includes('hunter2')));
});

test('two settings that share a name are refused when the table is made', () => {
  const one = setting(type.bool(), { key: 'a_b', group: 'A', default: false, description: 'x' });
  const two = setting(type.bool(), { key: 'a.b', group: 'A', default: false, description: 'x' });
  assert.throws(() => defineConfig('twice', { one, two }), /--a-b/);
});

test('any text in any source gives a value or problems, never a throw', () => {
  const names = ['name', 'api_key', 'labels', 'jobs.max_concurrent', 'jobs.wait', 'jobs.images', 'jobs.warm', 'x'];
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.string(), fc.json(), (key, text, json) => {
      const env = { [`LONGLINE_${key.replaceAll('.', '_').toUpperCase()}`]: text };
      const flags = new Map([[`--${key.replaceAll(/[._]/g, '-')}`, [text]]]);
      for (const sources of [{ env }, { flags }, { file: file(text) }, { file: file(`${key} = ${json}`) }]) {
        const result = resolveConfig(schema, sources);
        if (result.ok) assert.ok(result.config.jobs.most >= 1 && result.config.jobs.most <= 10);
        else assert.ok(result.problems.every((problem) => problem.key !== '' && problem.description !== ''));
      }
    }),
  );
});

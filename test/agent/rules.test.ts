import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { AuditEntry, AuditLog } from '../../src/agent/audit/audit-log.ts';
import { type AgentConfig, agentConfig } from '../../src/agent/config.ts';
import { LiveSettings } from '../../src/agent/live-settings.ts';
import { hostPaths } from '../../src/agent/policy/host-paths.ts';
import { PolicyStore } from '../../src/agent/policy/policy-store.ts';
import { reloader, reloadRules } from '../../src/agent/rules.ts';
import { formatTrustEntry } from '../../src/agent/trust/trust-entry-text.ts';
import { TrustStore } from '../../src/agent/trust/trust-store.ts';
import { configError, resolveConfig } from '../../src/core/config/resolve.ts';
import { silentLogger } from '../../src/core/logger.ts';
import { generateSigningKey } from '../../src/core/signing/signing-key.ts';

function config(text = ''): AgentConfig {
  const file = { path: 'agent.toml', text };
  const flags = new Map<string, string[]>();
  const result = resolveConfig(agentConfig, { flags, env: {}, file, readSecret: () => '' });
  if (!result.ok) throw configError(result.problems);
  return result.config;
}

function entryOf(keyId: string): string {
  return formatTrustEntry({
    keyId,
    publicKey: generateSigningKey('ed25519').publicKey,
    secretFile: undefined,
    controllers: ['main'],
    capabilities: ['jobs'],
    selectors: [],
    scopes: [],
    notAfterMs: undefined,
  });
}

test('a reload puts all files in force or none, and is recorded either way', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-rules-'));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const [policyPath, trustPath] = [join(folder, 'policy.toml'), join(folder, 'trust.toml')];
  const write = async (policyText: string, trustText: string) => {
    await writeFile(policyPath, `version = 1\n${policyText}`, { mode: 0o644 });
    await writeFile(trustPath, trustText, { mode: 0o644 });
  };
  await write('', entryOf('old'));
  const paths = hostPaths([]);
  const policy = new PolicyStore(policyPath, { paths, defaultUser: '65534:65534', defaultRuntime: '' });
  const sources = { trustFile: { path: trustPath, required: true }, enrollmentFile: undefined, enrollmentScopes: [] };
  const trust = new TrustStore(sources);
  const recorded: (string | undefined)[] = [];
  const audit: Pick<AuditLog, 'note'> = { note: (entry: AuditEntry) => recorded.push(entry.outcome) };
  const first = config();
  let next = first;
  const levels: string[] = [];
  const settings = new LiveSettings(
    first,
    async () => next,
    ({ level }) => levels.push(level),
  );
  const reload = () => reloadRules({ policy, trust, paths }, settings, audit, silentLogger);
  assert.deepEqual(await reload(), { files: [policyPath, trustPath], settings: [], refused: [] });

  await write('[signatures]\nrequire = []\n', 'keys = 5\n');
  await assert.rejects(reload(), { reason: 'invalid', message: /trust file/ });
  assert.deepEqual(policy.policy.signatures.require, ['jobs', 'programs'], 'the good file is not taken alone');

  next = config('log_level = "debug"');
  await write('nonsense', entryOf('new'));
  await assert.rejects(reload(), { message: /policy file/ });
  assert.deepEqual([trust.find('old') !== undefined, trust.find('new') !== undefined], [true, false]);
  assert.equal(settings.config.log.level, 'info', 'settings are not taken without the files');

  await write('[signatures]\nrequire = []\n', entryOf('new'));
  assert.deepEqual((await reload()).settings, ['log_level']);
  assert.equal(levels.at(-1), 'debug');
  assert.deepEqual([policy.policy.signatures.require, trust.find('old')], [[], undefined]);
  assert.deepEqual(recorded, ['applied', 'refused', 'refused', 'applied']);
});

test('settings that can change while the agent runs do, at once; others keep their value and are told', async () => {
  const text = (jobs: string, top = '') => `allowed_controllers = ["main"]\n${top}[jobs]\n${jobs}`;
  let next = config(text('max_cpus = 4\nallowed_images = ["alpine"]\nmax_concurrent = 5\n'));
  const settings = new LiveSettings(
    next,
    async () => next,
    () => undefined,
  );
  const { jobs } = settings;
  next = config(
    text('max_cpus = 2\nallowed_images = ["busybox"]\nmax_concurrent = 9\n', 'region = "eu"\nclock_skew = "5s"\n'),
  );
  const changes = await settings.read();
  assert.equal(jobs.limits.cpus, 4, 'nothing changes before it is put in force');
  changes.put();
  assert.deepEqual([...changes.applied].sort(), ['jobs.allowed_images', 'jobs.max_cpus']);
  assert.deepEqual(changes.refused.map(({ key }) => key).sort(), ['clock_skew', 'jobs.max_concurrent', 'region']);
  assert.match(changes.refused[0]!.reason, /next start/);
  assert.deepEqual([jobs.limits.cpus, jobs.maxConcurrent, jobs.imagePatterns[0]!.text], [2, 5, 'busybox']);
  assert.deepEqual([settings.config.clockSkewMs, settings.config.region], [60_000, '']);
  assert.equal((await settings.read()).refused.length, 3, 'they are told until the agent is started anew');
});

test('of two reloads at once the later reads after the earlier has ended, also one that failed', async () => {
  const steps: string[] = [];
  const waiting: PromiseWithResolvers<void>[] = [];
  let after = 0;
  const reload = reloader(
    async () => {
      const number = waiting.push(Promise.withResolvers<void>());
      steps.push(`begin ${number}`);
      await waiting[number - 1]!.promise;
      steps.push(`end ${number}`);
      return { files: [], settings: [], refused: [] };
    },
    () => {
      after += 1;
    },
  );
  const begun = async (number: number) => {
    while (waiting.length < number) await new Promise((resolve) => setImmediate(resolve));
  };
  const [first, second, third] = [reload(), reload(), reload()];
  await begun(1);
  waiting[0]!.resolve();
  await first;
  assert.deepEqual(steps.slice(0, 2), ['begin 1', 'end 1']);
  await begun(2);
  waiting[1]!.reject(new Error('a bad file'));
  await assert.rejects(second, /a bad file/);
  await begun(3);
  waiting[2]!.resolve();
  await third;
  assert.deepEqual(steps, ['begin 1', 'end 1', 'begin 2', 'begin 3', 'end 3']);
  assert.equal(after, 2, 'a reload that failed changed nothing');
});

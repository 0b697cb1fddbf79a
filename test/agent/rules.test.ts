import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { AuditEntry, AuditLog } from '../../src/agent/audit/audit-log.ts';
import { hostPaths } from '../../src/agent/policy/host-paths.ts';
import { PolicyStore } from '../../src/agent/policy/policy-store.ts';
import { reloadRules } from '../../src/agent/rules.ts';
import { formatTrustEntry } from '../../src/agent/trust/trust-entry-text.ts';
import { TrustStore } from '../../src/agent/trust/trust-store.ts';
import { silentLogger } from '../../src/core/logger.ts';
import { generateSigningKey } from '../../src/core/signing/signing-key.ts';

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
  const reload = () => reloadRules({ policy, trust, paths }, audit, silentLogger);
  assert.deepEqual(await reload(), [policyPath, trustPath]);

  await write('[signatures]\nrequire = []\n', 'keys = 5\n');
  await assert.rejects(reload(), { reason: 'invalid', message: /trust file/ });
  assert.deepEqual(policy.policy.signatures.require, ['jobs', 'programs'], 'the good file is not taken alone');

  await write('nonsense', entryOf('new'));
  await assert.rejects(reload(), { message: /policy file/ });
  assert.deepEqual([trust.find('old') !== undefined, trust.find('new') !== undefined], [true, false]);

  await write('[signatures]\nrequire = []\n', entryOf('new'));
  await reload();
  assert.deepEqual([policy.policy.signatures.require, trust.find('old')], [[], undefined]);
  assert.deepEqual(recorded, ['applied', 'refused', 'refused', 'applied']);
});

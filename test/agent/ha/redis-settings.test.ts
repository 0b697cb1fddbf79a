// Settings of election by Redis that don't fit together, and files of CAs that hold none.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { agentConfig } from '../../../src/agent/config.ts';
import { readTrusted } from '../../../src/agent/ha/trusted-file.ts';
import { resolveConfig } from '../../../src/core/config/resolve.ts';
import { makePki } from '../../link/certificates.ts';
import { scratchFolder } from '../../link/scratch.ts';

const REDIS = {
  ...{ LONGLINE_CONTROLLER: 'https://c:1', LONGLINE_HA_ENABLED: 'true', LONGLINE_HA_BACKEND: 'redis' },
  REDIS_URL: 'redis://primary/0',
};

function problems(env: Readonly<Record<string, string>>): string {
  const resolved = resolveConfig(agentConfig, { env: { ...REDIS, ...env } });
  return resolved.ok ? '' : resolved.problems.map(({ key, description }) => `${key}: ${description}`).join('\n');
}

test('Sentinels and the name that they know come together', () => {
  const sentinels = { LONGLINE_HA_REDIS_SENTINELS: 's1:26379,[::1]:26379' };
  assert.match(problems(sentinels), /ha\.redis_master_name.*is missing/);
  assert.match(problems({ LONGLINE_HA_REDIS_MASTER_NAME: 'mymaster' }), /names mymaster, but ha\.redis_sentinels/);
  assert.match(problems({ LONGLINE_HA_REDIS_SENTINELS: 's1' }), /ha\.redis_sentinels.*"s1".*HOST:PORT/);
  const both = { ...REDIS, ...sentinels, LONGLINE_HA_REDIS_MASTER_NAME: 'mymaster' };
  const resolved = resolveConfig(agentConfig, { env: both });
  assert.ok(resolved.ok);
  assert.deepEqual(resolved.config.ha.redisSentinels, ['s1:26379', '[::1]:26379']);
});

test('a URL of Redis that can not be read is said without what it hides', () => {
  for (const url of [
    'redis://user:geheim@host:99999/0',
    'redis://user:geheim#1@host:6379/0',
    'redis://user:geheim%zz@host',
    'redis://user:geheim?x@host:6379/0',
  ]) {
    const told = problems({ REDIS_URL: url });
    assert.match(told, /ha\.redis_url: is no URL: its port must be 1 to 65535/, url);
    assert.doesNotMatch(told, /geheim/);
    assert.equal(problems({ REDIS_URL: url, LONGLINE_HA_BACKEND: 'file' }), '', 'it may be of another program');
  }
  for (const url of ['redis://user:geheim%231%25@[::1]:6379/0', 'rediss://host', 'redis://primary/0']) {
    assert.equal(problems({ REDIS_URL: url }), '', url);
  }
  const nowhere = { LONGLINE_HA_REDIS_SENTINELS: 's1:26379,s2:99999', LONGLINE_HA_REDIS_MASTER_NAME: 'mymaster' };
  assert.match(problems(nowhere), /ha\.redis_sentinels: "s2:99999" is no HOST:PORT/);
});

test('a Swarm service is named as Swarm names services', () => {
  assert.match(problems({ LONGLINE_HA_SWARM_SERVICE: 'a.b' }), /ha\.swarm_service.*"a\.b".*1 to 63/);
});

test('a file of CAs that is missing or holds none is an error that names setting and file', async () => {
  await using folder = await scratchFolder();
  const path = join(folder.path, 'ca.pem');
  await assert.rejects(readTrusted('ha.redis_ca_file', path), {
    reason: 'invalid',
    message: `ha.redis_ca_file ${path} can't be read (ENOENT); it must have PEM certificates of CAs`,
  });
  await writeFile(path, 'hello\n');
  await assert.rejects(readTrusted('ha.redis_ca_file', path), { reason: 'invalid', message: /has no certificate/ });
  const { authority } = await makePki();
  await writeFile(path, `# ours\n${authority}\n${authority}\n`);
  assert.ok((await readTrusted('ha.redis_ca_file', path)).includes(authority));
});

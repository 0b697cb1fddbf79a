import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { RegistryCredentialFile, registryOf } from '../../src/agent/registry-credentials.ts';

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-credentials-'));
});
after(() => rm(folder, { recursive: true, force: true }));

async function credentialFile(content: string, mode = 0o600): Promise<string> {
  const path = join(folder, `${Math.random().toString(36).slice(2)}.json`);
  await writeFile(path, content);
  await chmod(path, mode);
  return path;
}

test('the registry is the first part of a reference only if it looks like a host', () => {
  assert.equal(registryOf('alpine'), 'docker.io');
  assert.equal(registryOf('library/alpine:3'), 'docker.io');
  assert.equal(registryOf('localhost/alpine'), 'localhost');
  assert.equal(registryOf('127.0.0.1:5000/a/b@sha256:00'), '127.0.0.1:5000');
  assert.equal(registryOf('ghcr.example/a'), 'ghcr.example');
});

test('both forms of an entry are read, a password may hold colons, others are anonymous', async () => {
  const auths = {
    '127.0.0.1:5000': { auth: Buffer.from('user:pa:ss').toString('base64') },
    'https://index.docker.io/v1/': { username: 'hub', password: 'secret' },
  };
  const source = new RegistryCredentialFile(await credentialFile(JSON.stringify({ auths })));
  assert.deepEqual(await source.forImage('127.0.0.1:5000/x:1'), { username: 'user', password: 'pa:ss' });
  assert.deepEqual(await source.forImage('alpine'), { username: 'hub', password: 'secret' });
  assert.equal(await source.forImage('other.example/x'), undefined);
  assert.equal(await new RegistryCredentialFile(undefined).forImage('alpine'), undefined);
});

test('a bad file is refused by name, and its content never shown', async () => {
  const loose = new RegistryCredentialFile(await credentialFile('{}', 0o644));
  await assert.rejects(loose.forImage('alpine'), { reason: 'policy', message: /mode 644.*chmod 600/ });
  const broken = new RegistryCredentialFile(await credentialFile('{"auths": {"docker.io": hunter2'));
  await assert.rejects(broken.forImage('alpine'), (error: Error) => {
    assert.match(error.message, /is not JSON/);
    assert.doesNotMatch(`${error.message} ${String(error.cause)}`, /hunter2/);
    return true;
  });
  const empty = new RegistryCredentialFile(await credentialFile('{"auths": {"docker.io": {"auth": "!!"}}}'));
  await assert.rejects(empty.forImage('alpine'), { reason: 'invalid', message: /entry docker\.io/ });
  const absent = new RegistryCredentialFile(join(folder, 'absent.json'));
  await assert.rejects(absent.forImage('alpine'), { reason: 'wrong_state', message: /absent\.json/ });
});

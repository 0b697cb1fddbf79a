import 'reflect-metadata';
import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { X509CertificateGenerator } from '@peculiar/x509';
import { makeKeyAndRequest } from '../../src/agent/identity/certificate-request.ts';
import { CredentialStore, type Credentials } from '../../src/agent/identity/credential-store.ts';
import { newTestKeys, TEST_KEY_ALGORITHM } from '../fixtures/pem.ts';

const FACTS = { controllerUrl: 'https://c', controllerId: 'c', agentId: 'a', tokenSha256: '00', labels: {} };

let base: string;
before(async () => {
  base = await mkdtemp(join(tmpdir(), 'longline-identity-'));
});
after(() => rm(base, { recursive: true, force: true }));

async function credentials(name: string): Promise<Credentials> {
  const keys = await newTestKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned(
    { name: `CN=${name}`, keys, signingAlgorithm: TEST_KEY_ALGORITHM, notAfter: new Date(Date.now() + 60_000) },
    webcrypto as Crypto,
  );
  const { privateKey } = makeKeyAndRequest(name);
  return {
    certificateChain: certificate.toString('pem'),
    privateKey,
    trustedCertificates: certificate.toString('pem'),
  };
}

async function reopened(folder: string): Promise<CredentialStore> {
  const store = new CredentialStore(folder);
  await store.open();
  return store;
}

test('a candidate replaces the current set only when promoted, and the old set is removed then', async () => {
  const folder = join(base, 'promote');
  const store = await reopened(folder);
  const [first, second] = [await credentials('first'), await credentials('second')];
  await store.replace(first, FACTS);
  await store.propose(second);
  const between = await reopened(folder);
  assert.equal((await between.current())?.certificateChain, first.certificateChain);
  const candidate = await between.candidate();
  assert.equal(candidate?.certificateChain, second.certificateChain);
  await between.promote('set-unknown');
  assert.equal((await between.current())?.certificateChain, first.certificateChain);
  await between.promote(candidate!.set);
  const later = await reopened(folder);
  assert.equal((await later.current())?.privateKey, second.privateKey);
  assert.equal(await later.candidate(), undefined);
  assert.equal(later.facts.agentId, 'a');
  assert.equal((await readdir(folder)).filter((name) => name.startsWith('set-')).length, 1);
});

test('a set that no index names, as a crash leaves it, is removed at open', async () => {
  const folder = join(base, 'crash');
  const store = await reopened(folder);
  await store.replace(await credentials('x'), FACTS);
  await mkdir(join(folder, 'set-half-written'));
  await writeFile(join(folder, 'index.json.new'), '{"current":');
  const after = await reopened(folder);
  assert.notEqual(await after.current(), undefined);
  assert.equal((await readdir(folder)).length, 2);
});

test('a key that others can read is refused with the mend', async () => {
  const folder = join(base, 'loose');
  const store = await reopened(folder);
  await store.replace(await credentials('x'), FACTS);
  const set = (await readdir(folder)).find((name) => name.startsWith('set-'))!;
  await chmod(join(folder, set, 'key.pem'), 0o644);
  await assert.rejects(store.current(), { reason: 'policy', message: /chmod 600/ });
});

test('a damaged index is refused with the mend', async () => {
  const folder = join(base, 'damaged');
  const store = await reopened(folder);
  await store.replace(await credentials('x'), FACTS);
  await writeFile(join(folder, 'index.json'), '{"current":');
  await assert.rejects(reopened(folder), { reason: 'invalid', message: /enrol again/ });
});

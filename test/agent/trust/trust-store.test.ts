import assert from 'node:assert/strict';
import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { writeEnrollmentTrust } from '../../../src/agent/trust/enrollment-trust.ts';
import { readGuardedFile } from '../../../src/agent/trust/guarded-file.ts';
import { formatTrustEntry, type TrustGrant } from '../../../src/agent/trust/trust-entry-text.ts';
import { TrustStore } from '../../../src/agent/trust/trust-store.ts';
import { formatKeyFile } from '../../../src/core/signing/key-file.ts';
import { generateSigningKey } from '../../../src/core/signing/signing-key.ts';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-trust-'));
});
afterEach(async () => await rm(folder, { recursive: true, force: true }));

const key = generateSigningKey('ed25519', 'ops');
const GRANT: TrustGrant = {
  keyId: 'ops',
  publicKey: key.publicKey,
  secretFile: undefined,
  controllers: ['main'],
  capabilities: ['jobs'],
  selectors: [{ matchLabels: { 'odd key': 'a"b' }, hasLabels: ['gpu'], agentIds: ['web-1'] }],
  scopes: ['deploy'],
  notAfterMs: Date.UTC(2030, 0, 1),
};

async function write(name: string, text: string, mode = 0o644): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  await chmod(path, mode);
  return path;
}

function store(path: string, enrollmentFile?: string): TrustStore {
  return new TrustStore({ trustFile: { path, required: true }, enrollmentFile, enrollmentScopes: ['granted'] });
}

test('an entry is read as it was written', async () => {
  const trust = store(await write('trust.toml', formatTrustEntry(GRANT)));
  await trust.load();
  const { verification, source, ...entry } = trust.find('ops')!;
  const { publicKey: _publicKey, secretFile: _secretFile, ...expected } = GRANT;
  assert.deepEqual(entry, expected);
  assert.equal(verification.algorithm, 'ed25519');
  assert.equal(source, join(folder, 'trust.toml'));
  assert.equal(trust.find('other'), undefined);
});

test('HMAC keys by key file and inline', async () => {
  const shared = generateSigningKey('hmac-sha256', 'shared');
  const keyFile = await write('shared.key', formatKeyFile(shared), 0o600);
  const entry = { ...GRANT, keyId: 'shared', publicKey: undefined, secretFile: keyFile };
  const path = await write('trust.toml', formatTrustEntry(entry));
  const trust = store(path);
  await trust.load();
  assert.deepEqual(trust.find('shared')!.verification, { algorithm: 'hmac-sha256', secret: shared.secret });
  await chmod(keyFile, 0o644);
  await assert.rejects(trust.load(), /key file .* can be used by others \(mode 0644\); mend it with: chmod 600/);
  const secret = Buffer.from(shared.secret).toString('base64');
  await writeFile(path, formatTrustEntry(entry).replace(/secret_file = .*/, `secret = "${secret}"`));
  await assert.rejects(trust.load(), { reason: 'policy', message: /trust file .* can be used by others/ });
  await chmod(path, 0o600);
  await trust.load();
  assert.equal(trust.find('shared')!.verification.algorithm, 'hmac-sha256');
});

test('a bad file is refused with every mistake, and what was in force stays', async () => {
  const path = await write('trust.toml', formatTrustEntry(GRANT));
  const trust = store(path);
  await trust.load();
  const secret = Buffer.from(generateSigningKey('hmac-sha256').secret).toString('base64');
  for (const [text, message] of [
    [
      '[[keys]]\nkey_id = "a"\nalgorithm = "rsa"\n',
      /keys\[0\].algorithm: got "rsa".*controllers: missing.*capabilities: missing/,
    ],
    [formatTrustEntry(GRANT) + formatTrustEntry(GRANT), /keys\[1\].key_id: ops is listed twice \(line/],
    [
      formatTrustEntry(GRANT).replace(/public_key = .*/, `public_key = "${'A'.repeat(43)}="`),
      /keys\[0\].public_key: .*small order/,
    ],
    [formatTrustEntry(GRANT).replace(/public_key = .*/, ''), /keys\[0\].public_key: missing/],
    [
      `[[keys]]\nkey_id = "a"\nalgorithm = "hmac-sha256"\ncontrollers = ["*"]\ncapabilities = ["jobs"]\n`,
      /exactly one of secret and secret_file/,
    ],
    [
      `[[keys]]\nkey_id = "a"\nalgorithm = "ed25519"\nsecret = "${secret}"\ncontrollers = ["*"]\ncapabilities = ["jobs"]\n`,
      /only the public key/,
    ],
    [
      formatTrustEntry({ ...GRANT, publicKey: undefined, secretFile: join(folder, 'none.key') }),
      /secret_file .*none.key: .*no such file/,
    ],
  ] as const) {
    await writeFile(path, text);
    await assert.rejects(trust.load(), (error: Error) => {
      assert.match(error.message, message);
      assert.match(error.message, /trust file .*trust.toml/);
      assert.ok(!error.message.includes(secret));
      return true;
    });
    assert.notEqual(trust.find('ops'), undefined);
  }
});

test('enrolment brings trust that the trust file overrides, with scopes from the config', async () => {
  const enrollment = join(folder, 'enrollment-trust.toml');
  const own = generateSigningKey('ed25519', 'controller-key');
  const trust = store(await write('trust.toml', formatTrustEntry(GRANT)), enrollment);
  await trust.load();
  assert.equal(trust.find('controller-key'), undefined);
  await writeEnrollmentTrust(enrollment, {
    controllerId: 'main',
    keys: [
      { keyId: 'controller-key', publicKey: own.publicKey! },
      { keyId: 'ops', publicKey: own.publicKey! },
    ],
  });
  assert.equal((await stat(enrollment)).mode & 0o777, 0o600);
  await trust.load();
  const entry = trust.find('controller-key')!;
  assert.deepEqual([entry.controllers, entry.scopes], [['main'], ['granted']]);
  assert.ok(entry.capabilities.includes('jobs'));
  assert.deepEqual(trust.find('ops')!.scopes, ['deploy']);
  assert.equal(trust.files.length, 2);
  const before = await readFile(enrollment);
  const bad = { controllerId: 'main', keys: [{ keyId: 'x', publicKey: new Uint8Array(32) }] };
  await assert.rejects(writeEnrollmentTrust(enrollment, bad), /controller_keys\[0\].public_key: .*small order/);
  const named = { controllerId: 'main', keys: [{ keyId: 'a b', publicKey: own.publicKey! }] };
  await assert.rejects(writeEnrollmentTrust(enrollment, named), /controller_keys\[0\].key_id: got "a b"/);
  assert.deepEqual(await readFile(enrollment), before);
});

test('a trust file that is required must exist, another need not', async () => {
  await assert.rejects(store(join(folder, 'none.toml')).load(), { reason: 'not_found' });
  const optional = new TrustStore({
    trustFile: { path: join(folder, 'none.toml'), required: false },
    enrollmentFile: undefined,
    enrollmentScopes: [],
  });
  await optional.load();
  assert.deepEqual(optional.files, []);
});

test('files that others could write or replace are refused, with the mend', async () => {
  const options = { what: 'policy file', secret: false };
  const path = await write('policy.toml', 'version = 1\n');
  assert.equal(await readGuardedFile(path, options), 'version = 1\n');
  await symlink(path, join(folder, 'link'));
  assert.equal(await readGuardedFile(join(folder, 'link'), options), 'version = 1\n');
  for (const mode of [0o664, 0o646]) {
    await chmod(path, mode);
    await assert.rejects(readGuardedFile(path, options), {
      reason: 'policy',
      rule: 'file_permissions',
      message: /chmod go-w/,
    });
  }
  await chmod(path, 0o644);
  await chmod(folder, 0o777);
  await assert.rejects(readGuardedFile(path, options), /its folder can be written by others \(mode 0777\)/);
  await chmod(folder, 0o1777);
  assert.equal(await readGuardedFile(path, options), 'version = 1\n');
  await chmod(folder, 0o700);
  await mkdir(join(folder, 'dir'));
  await assert.rejects(readGuardedFile(join(folder, 'dir'), options), /not a regular file/);
  await assert.rejects(readGuardedFile(join(folder, 'none'), options), { reason: 'not_found' });
});

test('a file of another user is refused', {
  skip: process.geteuid?.() === 0 ? false : 'only root can give files away',
}, async () => {
  const path = await write('policy.toml', 'version = 1\n');
  await chown(path, 12345, 12345);
  await assert.rejects(
    readGuardedFile(path, { what: 'policy file', secret: false }),
    /belongs to user 12345; mend it with: chown root/,
  );
});

// What a controller keeps in its data directory: made once, private, never half-written, refused when loose or damaged.
import assert from 'node:assert/strict';
import { createPublicKey, verify, X509Certificate } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, it } from 'node:test';
import { TICKET_KEY_LIFETIME_MS, TicketKeys } from '../../../src/controller/front/ticket-keys.ts';
import { writeAdminContext } from '../../../src/controller/identity/admin-context.ts';
import { ApiTokens } from '../../../src/controller/identity/api-tokens.ts';
import {
  type ControllerIdentity,
  openControllerIdentity,
} from '../../../src/controller/identity/controller-identity.ts';
import { DataDirectory } from '../../../src/controller/identity/data-directory.ts';
import { systemClock } from '../../../src/core/clock.ts';
import type { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { memoryRepositories } from '../../fixtures/identity-memory.ts';

const DAY_MS = 86_400_000;
let root: string;
let folder: string;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'longline-identity-'));
});
after(() => rm(root, { recursive: true, force: true }));
beforeEach(async () => {
  folder = join(await mkdtemp(join(root, 'case-')), 'data');
});

async function open(hosts: string[] = ['localhost'], nowMs = Date.now()): Promise<ControllerIdentity> {
  using directory = await DataDirectory.open(folder);
  return await openControllerIdentity(directory, hosts, { ...systemClock, now: () => nowMs });
}

const leafOf = async (identity: ControllerIdentity) => {
  const { pem } = await identity.serverCertificate.current();
  return new X509Certificate(pem.slice(pem.indexOf('-----BEGIN CERT')));
};

it('makes everything once, readable by the owner only', async () => {
  const first = await open();
  const second = await open();
  assert.equal(second.controllerId, first.controllerId);
  assert.deepEqual(second.authority.certificate, first.authority.certificate);
  assert.equal(second.signingKey.keyId, first.signingKey.keyId);
  assert.equal((await leafOf(second)).serialNumber, (await leafOf(first)).serialNumber);
  assert.equal((await stat(folder)).mode & 0o777, 0o700);
  for (const name of await readdir(folder)) {
    if (name === 'lock') continue;
    assert.equal((await stat(join(folder, name))).mode & 0o777, 0o600, name);
  }
});

it('signs with the key it publishes', async () => {
  const { signingKey } = await open();
  const x = Buffer.from(signingKey.publicKey).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const bytes = Buffer.from('statement');
  assert.ok(verify(null, bytes, key, signingKey.sign(bytes)));
  assert.match(signingKey.keyId, /^controller-[0-9a-f]{16}$/);
});

it('refuses secrets that others can read, and names the mend', async () => {
  await open();
  for (const name of ['ca.pem', 'signing-key.pem', 'server.pem', 'controller-id']) {
    const path = join(folder, name);
    await chmod(path, 0o644);
    await assert.rejects(
      open(),
      (error: LonglineError) => error.reason === 'policy' && error.message.endsWith(`chmod 600 ${path}`),
    );
    await chmod(path, 0o600);
  }
});

it('refuses damaged files instead of making new ones', async () => {
  await open();
  for (const name of ['ca.pem', 'signing-key.pem', 'server.pem', 'controller-id']) {
    const path = join(folder, name);
    const good = await readFile(path);
    for (const bad of [Buffer.from('nonsense'), good.subarray(0, 20)]) {
      await writeFile(path, bad);
      await assert.rejects(
        open(),
        (error: LonglineError) => error.reason === 'invalid' && error.message.includes(path),
      );
    }
    await writeFile(path, good);
  }
  await open();
});

it('is open to one controller at a time', async () => {
  using _ = await DataDirectory.open(folder);
  await assert.rejects(DataDirectory.open(folder), (error: LonglineError) => {
    return error.reason === 'already_exists' && /in use by another controller/.test(error.message);
  });
});

it('says what is wrong with a directory it can not use', async () => {
  await writeFile(join(root, 'file'), '');
  await assert.rejects(DataDirectory.open(join(root, 'file', 'data')), (error: LonglineError) => {
    return error.reason === 'unavailable' && /data-dir: can't use/.test(error.message);
  });
});

it('renews the server certificate at two thirds of its life, and when its names change', async () => {
  const nowMs = Date.now();
  const serialAt = async (hosts: string[], atMs: number) => (await leafOf(await open(hosts, atMs))).serialNumber;
  const first = await serialAt(['localhost', '127.0.0.1', '::1'], nowMs);
  assert.equal(await serialAt(['localhost', '127.0.0.1', '::1'], nowMs + 59 * DAY_MS), first);
  const renewed = await serialAt(['localhost', '127.0.0.1', '::1'], nowMs + 61 * DAY_MS);
  assert.notEqual(renewed, first);
  assert.notEqual(await serialAt(['localhost', 'fleet.example'], nowMs + 61 * DAY_MS), renewed);
});

it('makes certificates that are good for exactly the names asked for', async () => {
  const leaf = await leafOf(await open(['localhost', 'fleet.example', '10.0.0.7', '::1']));
  for (const host of ['localhost', 'fleet.example']) assert.equal(leaf.checkHost(host), host);
  for (const address of ['10.0.0.7', '::1']) assert.equal(leaf.checkIP(address), address);
  assert.equal(leaf.checkHost('other.example'), undefined);
});

it('keeps ticket keys for a week, not longer, and makes new ones for damaged ones', async () => {
  using directory = await DataDirectory.open(folder);
  let nowMs = Date.now();
  const keys = () => new TicketKeys(directory, { ...systemClock, now: () => nowMs }).current();
  const first = await keys();
  assert.equal(first.length, 48);
  nowMs += TICKET_KEY_LIFETIME_MS - 1;
  assert.deepEqual(await keys(), first);
  nowMs += 1;
  const second = await keys();
  assert.notDeepEqual(second, first);
  await directory.writePrivate('tls-ticket-keys.json', '{"keys":');
  assert.notDeepEqual(await keys(), second);
});

it('keeps the admin token of the context file, brings the rest up to date, and replaces a token it does not know', async () => {
  using directory = await DataDirectory.open(folder);
  const tokens = new ApiTokens(memoryRepositories().apiTokens, systemClock);
  const write = async (url: string, known = tokens) => {
    const path = await writeAdminContext(directory, { url, ca: 'PEM', controller_id: 'id' }, known, silentLogger);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    return JSON.parse(await readFile(path, 'utf8')) as {
      url: string;
      token: string;
      ca: string;
      controller_id: string;
    };
  };
  const first = await write('https://a:1');
  const second = await write('https://b:2');
  assert.deepEqual(second, { ...first, url: 'https://b:2' });
  assert.equal((await tokens.authenticate(`Bearer ${second.token}`)).role, 'admin');
  const third = await write('https://b:2', new ApiTokens(memoryRepositories().apiTokens, systemClock));
  assert.notEqual(third.token, first.token);
  await directory.writePrivate('context.json', '{"token":5}');
  await assert.rejects(
    write('https://c:3'),
    (error: LonglineError) => error.reason === 'invalid' && /context\.json/.test(error.message),
  );
});

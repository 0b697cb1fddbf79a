// New certificates and ticket keys are taken over while the port serves.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { connect } from 'node:tls';
import { FrontFixture } from './front-fixture.ts';

async function serialShown(fixture: FrontFixture): Promise<string> {
  const socket = connect({
    host: '127.0.0.1',
    servername: 'localhost',
    port: fixture.port,
    ca: fixture.ca,
    ALPNProtocols: ['h2'],
  });
  await once(socket, 'secureConnect');
  const serial = socket.getPeerX509Certificate()!.serialNumber;
  socket.destroy();
  return serial;
}

async function until(check: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await check())) await new Promise((resolve) => setImmediate(resolve));
}

it('shows a replaced certificate to new connections, and keeps the old one when the new is bad', async () => {
  await using fixture = await FrontFixture.start({ renewalCheckMs: 10 });
  const path = join(fixture.folder, 'server.pem');
  const first = await serialShown(fixture);
  const good = await fixture.identity.authority.signServer(['localhost', '127.0.0.1'], 86_400_000);
  await writeFile(path, good, { mode: 0o600 });
  await until(async () => (await serialShown(fixture)) !== first);
  const second = await serialShown(fixture);

  await writeFile(path, 'nonsense');
  await until(() => fixture.lines.some(({ level, message }) => level === 'error' && /those in use stay/.test(message)));
  assert.equal(await serialShown(fixture), second);
});

it('takes a certificate over once it can, however often it could not', async () => {
  await using fixture = await FrontFixture.start();
  const { front, folder } = fixture;
  const first = await serialShown(fixture);
  const good = await fixture.identity.authority.signServer(['localhost', '127.0.0.1'], 86_400_000);
  const write = async (pem: string) => await writeFile(join(folder, 'server.pem'), pem, { mode: 0o600 });

  const brokenChain = `${good}-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n`;
  await write(brokenChain);
  for (const _ of [1, 2])
    await assert.rejects(front.renewNow(), { reason: 'invalid', message: /server\.pem: can't be/ });
  assert.equal(await serialShown(fixture), first);

  // The certificate is good, and the ticket keys beside it can't be had.
  await write(good);
  const keys = join(folder, 'tls-ticket-keys.json');
  await rm(keys);
  await mkdir(keys, { mode: 0o700 });
  for (const _ of [1, 2]) await assert.rejects(front.renewNow(), /tls-ticket-keys/);
  assert.equal(await serialShown(fixture), first);
  await rm(keys, { recursive: true });
  await front.renewNow();
  assert.notEqual(await serialShown(fixture), first);
});

it('renews an old certificate by itself', async () => {
  await using fixture = await FrontFixture.start({ renewalCheckMs: 10 });
  const path = join(fixture.folder, 'server.pem');
  // With a life of one second it is due at once.
  const planted = await fixture.identity.authority.signServer(['localhost', '127.0.0.1'], 1000);
  await writeFile(path, planted, { mode: 0o600 });
  await until(async () => ![planted, ''].includes(await readFile(path, 'utf8')));
  await until(() => fixture.lines.some(({ message }) => message === 'server certificate in use'));
  assert.match(await serialShown(fixture), /^[0-9A-F]+$/);
});

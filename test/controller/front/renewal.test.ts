// New certificates and ticket keys are taken over while the port serves.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
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

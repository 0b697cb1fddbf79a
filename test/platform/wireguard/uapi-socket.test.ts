import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { it } from 'node:test';
import { freeSocket } from '../../../src/platform/wireguard/uapi-socket.ts';

const skip = process.platform === 'win32' ? 'folders have no modes there' : false;

it('the folder of sockets can be looked into by the user of daemons, whatever our umask', { skip }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-uapi-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'wireguard', 'wg0.sock');
  const mask = process.umask(0o077);
  t.after(() => process.umask(mask));
  await freeSocket(path);
  assert.equal((await stat(dirname(path))).mode & 0o777, 0o755);
});

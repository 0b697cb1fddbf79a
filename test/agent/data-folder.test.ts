import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { instanceSocket, openDataFolder } from '../../src/agent/data-folder.ts';

let base: string;
before(async () => {
  base = await mkdtemp(join(tmpdir(), 'longline-data-'));
});
after(() => rm(base, { recursive: true, force: true }));

test('the folder is private and keeps its instance id', async () => {
  const path = join(base, 'a', 'b');
  const first = await openDataFolder(path);
  first[Symbol.dispose]();
  await chmod(path, 0o755);
  using second = await openDataFolder(path);
  assert.equal(second.instanceId, first.instanceId);
  assert.equal((await stat(path)).mode & 0o777, 0o700);
});

test('where no folder can be made it says so', { timeout: 10_000 }, async () => {
  await assert.rejects(openDataFolder('/proc/longline/data'), {
    reason: 'unavailable',
    message: /can't use \/proc.*ENOENT/,
  });
  await assert.rejects(openDataFolder('/proc/longline/data', '--state-dir'), { message: /^--state-dir: can't use/ });
});

test('a second opener is refused while the first holds it', async () => {
  const path = join(base, 'locked');
  const first = await openDataFolder(path);
  await assert.rejects(openDataFolder(path), {
    reason: 'already_exists',
    message: new RegExp(`in use by process ${process.pid}$`),
  });
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  (await openDataFolder(path))[Symbol.dispose]();
});

test('a copy is refused while the original is in use on this host', async () => {
  const path = join(base, 'original');
  const first = await openDataFolder(path);
  const copy = join(base, 'copy');
  await cp(path, copy, { recursive: true });
  await assert.rejects(openDataFolder(copy), {
    reason: 'already_exists',
    message: /copy is a copy of the data folder/,
  });
  first[Symbol.dispose]();
  (await openDataFolder(copy))[Symbol.dispose]();
});

test('a process that ends frees its lock before its name: whoever has the lock waits for the name', async (context) => {
  const path = join(base, 'between');
  const before = await openDataFolder(path);
  before[Symbol.dispose]();
  const ending = createServer().unref();
  await once(ending.listen(instanceSocket(before.instanceId)), 'listening');
  const { listen } = Server.prototype;
  let tries = 0;
  context.mock.method(Server.prototype, 'listen', function (this: Server, ...args: Parameters<typeof listen>) {
    tries += 1;
    if (tries === 2) ending.close();
    return listen.apply(this, args);
  });
  (await openDataFolder(path))[Symbol.dispose]();
  assert.ok(tries > 1);
});

test('a killed process lets go of the folder', async () => {
  const path = join(base, 'killed');
  const module = join(import.meta.dirname, '../../src/agent/data-folder.ts');
  const script = `const { openDataFolder } = await import(${JSON.stringify(module)});
    globalThis.held = await openDataFolder(${JSON.stringify(path)});
    process.stdout.write('held'); setInterval(() => globalThis.held.path, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(holder.stdout, 'data');
  await assert.rejects(openDataFolder(path), { reason: 'already_exists' });
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  (await openDataFolder(path))[Symbol.dispose]();
});

test('a damaged instance id is refused, not replaced', async () => {
  const path = join(base, 'damaged');
  (await openDataFolder(path))[Symbol.dispose]();
  await writeFile(join(path, 'instance-id'), 'nonsense');
  await assert.rejects(openDataFolder(path), { reason: 'invalid', message: /"nonsense", which is no UUID/ });
  await rm(join(path, 'instance-id'));
  (await openDataFolder(path))[Symbol.dispose]();
});

test('a path that is no folder is refused by name', async () => {
  const path = join(base, 'file');
  await writeFile(path, '');
  await assert.rejects(openDataFolder(path), { reason: 'unavailable', message: /data-dir: can't use/ });
});

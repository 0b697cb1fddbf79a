import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { inspect } from 'node:util';
import { readGuardedFile } from '../../../src/agent/trust/guarded-file.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { SecretKey } from '../../../src/core/wireguard-keys.ts';
import { KeyFiles } from '../../../src/platform/wireguard/key-files.ts';
import { addressOf, libc } from '../../../src/platform/wireguard/libc.ts';
import { LockedMemory } from '../../../src/platform/wireguard/locked-memory.ts';

const TEXT = Buffer.alloc(32, 7).toString('base64');

describe('keys of WireGuard', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-keys-'));
  });
  after(async () => await rm(folder, { recursive: true }));

  const store = (environment: Record<string, string> = {}, memory = new LockedMemory()) =>
    new KeyFiles({
      readSecret: async (path) => await readGuardedFile(path, { what: 'key file', secret: true }),
      environment,
      memory,
    });

  it('come from a file that only its owner may read', async () => {
    const path = join(folder, 'private.key');
    await writeFile(path, `${TEXT}\n`, { mode: 0o600 });
    const key = await store().read(path);
    assert.equal(key.reveal(), TEXT);
    for (const shown of [String(key), inspect(key), JSON.stringify(key)]) assert.match(shown, /\[redacted\]/);
    for (const mode of [0o640, 0o604, 0o644]) {
      await chmod(path, mode);
      await assert.rejects(store().read(path), { reason: 'policy', message: /chmod 600/ });
    }
  });

  it('come from the environment, or from nowhere, and no message shows what was there', async () => {
    assert.equal((await store({ WG_KEY: TEXT }).read('env:WG_KEY')).reveal(), TEXT);
    await assert.rejects(store().read('env:WG_KEY'), { reason: 'not_found', message: /no variable WG_KEY/ });
    await assert.rejects(store().read(join(folder, 'absent')), { reason: 'not_found' });
    const hidden = (error: Error) =>
      error instanceof LonglineError && error.reason === 'invalid' && !error.message.includes('AAAA');
    await assert.rejects(store({ WG_KEY: `${TEXT.slice(0, 20)}AAAA` }).read('env:WG_KEY'), hidden);
    await assert.rejects(store().read(`AAAA${TEXT}`), hidden);
  });

  it('are generated once into a file of mode 600, and never over another', async () => {
    const path = join(folder, 'made.key');
    const key = await store().generate(path);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.ok(key.equals(await store().read(path)));
    const text = await readFile(path, 'utf8');
    await assert.rejects(store().generate(path), { reason: 'already_exists' });
    assert.equal(await readFile(path, 'utf8'), text);
    await assert.rejects(store().generate(join(folder, 'none/made.key')), {
      reason: 'not_found',
      message: /no folder/,
    });
    // What a killed process left is no key and in nobody's way.
    const next = join(folder, 'next.key');
    await writeFile(`${next}.new`, 'half');
    await store().generate(next);
    await assert.rejects(stat(`${next}.new`), { code: 'ENOENT' });
  });
});

describe('memory for keys', { skip: process.platform === 'linux' ? false : 'needs Linux' }, () => {
  it('is locked: the kernel says so of the page that a key lies in', async () => {
    const memory = new LockedMemory();
    assert.equal(memory.unlocked, undefined);
    let view: Buffer | undefined;
    const key = SecretKey.parse(TEXT, (bytes) => (view = memory.hold(bytes)));
    assert.equal(key?.reveal(), TEXT);
    const at = addressOf(view!);
    const smaps = await readFile('/proc/self/smaps', 'utf8');
    const area = smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).find((text) => {
      const [from = '', to = ''] = text.slice(0, text.indexOf(' ')).split('-');
      return BigInt(`0x${from}`) <= at && at < BigInt(`0x${to}`);
    });
    assert.match(area!, /^Locked:\s+[1-9]\d* kB$/m);
    assert.match(area!, /^VmFlags:.* dd/m, 'not in the dump of a crash');
  });

  it('says why it is not locked, and keeps keys all the same', () => {
    const denied = () => {
      throw new LonglineError('unavailable', 'mlock failed with EPERM');
    };
    const memory = new LockedMemory(() => ({
      addressOf,
      call: (name, ...args) => (name === 'mlock' ? denied() : libc()(name, ...args)),
    }));
    assert.match(memory.unlocked!, /EPERM; give the agent CAP_IPC_LOCK/);
    for (let count = 0; count < 300; count++) {
      assert.equal(SecretKey.parse(TEXT, (bytes) => memory.hold(bytes))?.reveal(), TEXT);
    }
  });
});

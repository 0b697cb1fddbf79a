import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { LonglineError } from '../../../src/core/errors.ts';
import { SysctlFiles } from '../../../src/platform/routes/sysctls.ts';

describe('sysctls', () => {
  it('writes only what differs, makes no file, and says what to do where it may not write', async (t) => {
    const root = await mkdtemp(join(tmpdir(), 'longline-sysctls-'));
    t.after(() => rm(root, { recursive: true, force: true }));
    const path = join(root, 'ip_forward');
    await writeFile(path, '1\n');
    const sysctls = new SysctlFiles(root);
    const { mtimeMs } = await stat(path);
    assert.equal(await sysctls.ensure('ip_forward', '1'), false);
    assert.equal((await stat(path)).mtimeMs, mtimeMs);
    assert.equal(await sysctls.ensure('ip_forward', '0'), true);
    assert.match(await readFile(path, 'utf8'), /^0/);
    assert.equal(await sysctls.read('absent'), undefined);
    const refused = (message: RegExp) => (error: unknown) =>
      error instanceof LonglineError && error.reason === 'wrong_state' && message.test(error.message);
    await assert.rejects(sysctls.ensure('absent', '1'), refused(/^absent is not there and must be 1/));
  });

  it('reads what the kernel of this host has', { skip: process.platform !== 'linux' && 'needs Linux' }, async () => {
    assert.match((await new SysctlFiles().read('kernel/random/boot_id'))!, /^[0-9a-f-]{36}$/);
    // The kernel refuses to change it, whoever asks.
    await assert.rejects(
      new SysctlFiles().ensure('kernel/random/boot_id', 'x'),
      /^LonglineError: kernel\.random\.boot_id is [0-9a-f-]{36} and must be x, but it is read-only here.*--sysctl/,
    );
  });
});

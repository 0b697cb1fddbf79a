import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { LonglineError, type Reason } from '../../../src/core/errors.ts';
import { childCommands } from '../../../src/platform/process/child-command.ts';

async function scratch(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'longline-commands-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const failsWith = (reason: Reason) => (error: unknown) => error instanceof LonglineError && error.reason === reason;

describe('child commands', { skip: process.platform === 'win32' && 'needs a Unix' }, () => {
  it('gives output and exit code, and nothing of this environment', async () => {
    process.env['LONGLINE_TEST_SECRET'] = 'x';
    const { code, stderr, stdout } = await childCommands()({ argv: ['sh', '-c', 'env; echo oh >&2; exit 3'] });
    delete process.env['LONGLINE_TEST_SECRET'];
    assert.deepEqual([code, stderr], [3, 'oh\n']);
    assert.match(stdout, /^LC_ALL=C$/m);
    assert.doesNotMatch(stdout, /LONGLINE/);
  });

  it('gives the whole input at once, from a file that is gone', async (t) => {
    const folder = await scratch(t);
    const stdin = 'route\n'.repeat(200_000);
    const script = `ls -A ${folder}; [ -f /dev/stdin ] && echo file; wc -c`;
    const { stdout } = await childCommands(folder)({ argv: ['sh', '-c', script], stdin });
    assert.deepEqual(stdout.trim().split(/\s+/), ['file', String(stdin.length)]);
    assert.deepEqual(await readdir(folder), []);
  });

  it('ends what takes too long, says too much or is not wanted any more', async () => {
    const run = childCommands(tmpdir(), 1000);
    await assert.rejects(run({ argv: ['sleep', '100'], timeoutMs: 20 }), failsWith('late'));
    await assert.rejects(run({ argv: ['yes'] }), failsWith('limit'));
    const abort = new AbortController();
    const running = run({ argv: ['sleep', '100'] }, abort.signal);
    abort.abort();
    await assert.rejects(running, failsWith('cancelled'));
    await assert.rejects(run({ argv: ['true'] }, abort.signal), failsWith('cancelled'));
  });

  it('tells a program that is absent from one that was killed, and an input that has no place', async () => {
    const run = childCommands();
    await assert.rejects(run({ argv: ['longline-no-such-program'] }), failsWith('unsupported'));
    await assert.rejects(run({ argv: ['sh', '-c', 'kill -9 $$'] }), failsWith('unavailable'));
    await assert.rejects(childCommands('/nowhere')({ argv: ['cat'], stdin: 'x' }), failsWith('unavailable'));
  });
});

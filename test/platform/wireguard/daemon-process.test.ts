import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { endProcess, isRunning, lastWords, launch } from '../../../src/platform/wireguard/daemon-process.ts';

const LIMIT_MS = 30_000;

async function eventually(look: () => boolean | Promise<boolean>): Promise<void> {
  const endsAt = performance.now() + LIMIT_MS;
  while (!(await look())) {
    if (performance.now() > endsAt) throw new Error('it did not come about in time');
    await delay(20);
  }
}

describe('a launcher of daemons', { skip: process.platform === 'linux' ? false : 'needs Linux' }, () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-daemon-'));
  });
  after(async () => await rm(folder, { recursive: true }));

  const start = async (program: string, args: readonly string[] = [], logLimitBytes = 1000) => {
    const logPath = join(folder, 'daemon.log');
    const rest = { environment: ['A=b'], user: undefined, capabilities: [], descriptors: [], feignMtu: true };
    return { logPath, daemon: await launch({ program, args, logLimitBytes, ...rest }, [], logPath) };
  };

  it('becomes the program under the same identity, with its environment alone and no descriptors of ours', async () => {
    const { daemon, logPath } = await start('/bin/sh', [
      '-c',
      'echo $$; tr "\\0" " " </proc/$$/environ; ls /proc/$$/fd; exec sleep 600',
    ]);
    await daemon.go();
    await eventually(async () => (await readFile(logPath, 'utf8')).split('\n').length > 4);
    assert.equal(await readFile(logPath, 'utf8'), `${daemon.identity.pid}\nA=b 0\n1\n2\n`);
    assert.equal(await isRunning(daemon.identity), true);
    assert.equal(daemon.ended(), undefined);
    await endProcess(daemon.identity);
    await eventually(() => daemon.ended() !== undefined);
    assert.equal(daemon.ended(), 'it was ended by SIGTERM');
    await endProcess(daemon.identity);
  });

  it('ends without a word if it is not told to go on, and then can’t be', async () => {
    const { daemon, logPath } = await start('/bin/echo', ['hello']);
    daemon[Symbol.dispose]();
    await eventually(() => daemon.ended() !== undefined);
    await assert.rejects(daemon.go(), { reason: 'unavailable', message: /ended before its word/ });
    assert.equal(await lastWords(logPath), 'it gave no reason');
  });

  it('says why the program can’t be run', async () => {
    const { daemon, logPath } = await start('/nonexistent/wireguard-go');
    await daemon.go();
    await eventually(() => daemon.ended() !== undefined);
    assert.equal(daemon.ended(), 'it exited with 70');
    assert.match(await lastWords(logPath), /could not be started: execve failed with ENOENT/);
  });

  it('bounds the log, past which the program goes on, and keeps that of the one before', async () => {
    const { daemon, logPath } = await start(
      '/bin/sh',
      ['-c', 'for i in 1 2 3 4 5 6 7 8 9; do echo 0123456789; done; exit 3'],
      50,
    );
    await daemon.go();
    await eventually(() => daemon.ended() !== undefined);
    assert.equal(daemon.ended(), 'it exited with 3');
    assert.equal((await readFile(logPath)).length, 50);
    const next = await start('/bin/true');
    next.daemon[Symbol.dispose]();
    assert.equal((await readFile(`${logPath}.1`)).length, 50);
    await eventually(() => next.daemon.ended() !== undefined);
  });
});

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, lstat, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { NO_RESOLV_FILE, ResolvFile } from '../../../src/platform/dns/resolv-file.ts';
import { Killed, MemoryRecord } from '../../fixtures/memory-record.ts';

/** With bytes that are no UTF-8, and no newline at its end. */
const BEFORE = Buffer.concat([
  Buffer.from('# eth0 \xe9\n', 'latin1'),
  Buffer.from('nameserver 9.9.9.9\nsearch home\noptions edns0'),
]);
const WANTED = { servers: ['10.0.0.1', 'fd00::1'], domains: ['corp.example', '~.'] };
const OTHER = { servers: ['10.1.0.1'], domains: [] };

async function openFile(t: TestContext, before: Buffer | null = BEFORE) {
  const folder = await mkdtemp(join(tmpdir(), 'longline-resolv-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'resolv.conf');
  if (before !== null) await writeFile(path, before, { mode: 0o640 });
  const record = new MemoryRecord(NO_RESOLV_FILE);
  return { folder, path, record, file: new ResolvFile(record, path), text: () => readFile(path, 'utf8') };
}

describe('resolv.conf', () => {
  it('names the servers, keeps options and search, and puts every byte back', async (t) => {
    const { file, folder, path, record, text } = await openFile(t);
    assert.deepEqual(await file.apply('wg0', WANTED), []);
    assert.equal(
      await text(),
      '# Set by Longline while wg0 is up; what was here before is then put back.\nnameserver 10.0.0.1\nnameserver fd00::1\nsearch corp.example home\noptions edns0\n',
    );
    const { ino } = await lstat(path);
    const { writes } = record;
    await file.apply('wg0', WANTED);
    assert.deepEqual([(await lstat(path)).ino, record.writes], [ino, writes], 'what is so already is not written');
    await file.remove('wg0');
    assert.deepEqual(await readFile(path), BEFORE);
    assert.equal((await lstat(path)).mode & 0o777, 0o640);
    assert.deepEqual(record.value, NO_RESOLV_FILE);
    assert.deepEqual(await readdir(folder), ['resolv.conf']);
    assert.deepEqual(await file.probe(), { kind: 'in_use' });
    const nowhere = await new ResolvFile(record, join(folder, 'absent', 'resolv.conf')).probe();
    assert.equal(nowhere.kind, 'missing');
  });

  it('holds the servers of several interfaces, and says what it can not hold', async (t) => {
    const { file, path, text } = await openFile(t);
    await file.apply('wg0', WANTED);
    const notes = await file.apply('wg1', { servers: ['10.1.0.1', '10.1.0.2'], domains: ['~lab.example'] });
    assert.deepEqual(notes, [
      'resolv.conf knows no domains: the name servers of wg1 are asked for all names',
      'resolv.conf holds 3 name servers: of 4 the last are left out',
    ]);
    assert.match(await text(), /fd00::1\nnameserver 10\.1\.0\.1\nsearch/);
    await file.remove('wg0');
    assert.match(await text(), /while wg1 is up.*\nnameserver 10\.1\.0\.1\nnameserver 10\.1\.0\.2\nsearch home\n/);
    await file.remove('wg1');
    await file.remove('wg1');
    assert.deepEqual(await readFile(path), BEFORE);
  });

  it('puts a link in its place again, and takes away what was not there', async (t) => {
    const linked = await openFile(t, null);
    await writeFile(join(linked.folder, 'stub.conf'), 'options trust-ad\n');
    await symlink('stub.conf', linked.path);
    await linked.file.apply('wg0', WANTED);
    assert.match(await linked.text(), /options trust-ad/);
    assert.equal(await readFile(join(linked.folder, 'stub.conf'), 'utf8'), 'options trust-ad\n');
    await linked.file.remove('wg0');
    assert.equal(await readlink(linked.path), 'stub.conf');
    const absent = await openFile(t, null);
    await absent.file.apply('wg0', WANTED);
    await absent.file.remove('wg0');
    assert.deepEqual(await readdir(absent.folder), []);
  });

  it('respects what somebody else writes, until something else is wanted', async (t) => {
    const { file, path, record, text } = await openFile(t);
    await file.apply('wg0', WANTED);
    await writeFile(path, 'nameserver 8.8.8.8\n');
    const [note] = await file.apply('wg0', WANTED);
    assert.match(note!, /changed by somebody else since; it stays as it is, and dns of wg0 with it/);
    assert.equal(await text(), 'nameserver 8.8.8.8\n');
    await file.apply('wg0', OTHER);
    assert.match(await text(), /nameserver 10\.1\.0\.1/);
    await file.remove('wg0');
    assert.equal(await text(), 'nameserver 8.8.8.8\n', 'what they wrote comes back, not what they replaced');
    await file.apply('wg0', WANTED);
    await writeFile(path, 'nameserver 1.1.1.1\n');
    await file.remove('wg0');
    assert.deepEqual([await text(), record.value], ['nameserver 1.1.1.1\n', NO_RESOLV_FILE]);
  });

  it('can be killed around any record, and comes back to what was there', async (t) => {
    for (const when of ['before', 'after'] as const) {
      for (const write of [1, 2, 3]) {
        const { file, folder, path, record, text } = await openFile(t);
        // Left by a kill in the middle of an edit.
        await writeFile(`${path}.longline`, 'half');
        record.start(when, write);
        const life = async () => {
          await file.apply('wg0', WANTED);
          await file.apply('wg0', OTHER);
          await file.remove('wg0');
        };
        await assert.rejects(life(), Killed);
        record.start();
        await file.apply('wg0', WANTED);
        assert.match(await text(), /^nameserver 10\.0\.0\.1$/m, `${when} ${write}`);
        await chmod(path, 0o600);
        await file.remove('wg0');
        assert.deepEqual(await readFile(path), BEFORE, `${when} ${write}`);
        assert.deepEqual([await readdir(folder), record.value], [['resolv.conf'], NO_RESOLV_FILE]);
      }
    }
  });

  it('comes back from an overwriting that was cut short', async (t) => {
    const { file, path, record } = await openFile(t, Buffer.concat([BEFORE, Buffer.alloc(500, '\n# more')]));
    const whole = await readFile(path);
    await file.apply('wg0', WANTED);
    const ours = await readFile(path);
    await writeFile(path, Buffer.concat([ours, whole.subarray(ours.length)]));
    record.start();
    await file.apply('wg0', WANTED);
    assert.deepEqual(await readFile(path), ours);
    await writeFile(path, Buffer.concat([ours, whole.subarray(ours.length)]));
    await file.remove('wg0');
    assert.deepEqual(await readFile(path), whole);
  });

  it('overwrites a file that is a mount, as in a container', {
    skip: process.getuid?.() !== 0 && 'needs root',
  }, async (t) => {
    const { path } = await openFile(t);
    const source = (name: string) => fileURLToPath(new URL(`../../../${name}`, import.meta.url));
    const script = `
      const { NO_RESOLV_FILE, ResolvFile } = await import('${source('src/platform/dns/resolv-file.ts')}');
      const { readFileSync } = await import('node:fs');
      let kept = NO_RESOLV_FILE;
      const file = new ResolvFile({ read: async () => kept, write: async (next) => void (kept = next) }, process.argv[1]);
      await file.apply('wg0', { servers: ['10.0.0.1'], domains: [] });
      const during = readFileSync(process.argv[1], 'utf8');
      await file.remove('wg0');
      process.stdout.write(JSON.stringify([during, readFileSync(process.argv[1], 'base64')]));`;
    const line = 'mount --bind "$2" "$2" && exec "$1" --input-type=module -e "$3" "$2"';
    const argv = ['-m', 'sh', '-c', line, 'sh', process.execPath, path, script];
    const { stdout } = await promisify(execFile)('unshare', argv, { timeout: 60_000 });
    const [during, after] = JSON.parse(stdout) as [string, string];
    assert.match(during, /^nameserver 10\.0\.0\.1$/m);
    assert.equal(after, BEFORE.toString('base64'));
  });
});

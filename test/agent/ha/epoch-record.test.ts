import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { EpochRecord } from '../../../src/agent/ha/epoch-record.ts';
import { lastingTime } from '../../../src/agent/ha/lasting-time.ts';

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'epochs-'));
});
after(() => rm(folder, { recursive: true, force: true }));

test('what is kept is there for the next process, and the highest counts whoever wrote last', async () => {
  const path = join(folder, 'shared');
  assert.equal(await EpochRecord.read(path), 0n);
  const [first, second] = [await EpochRecord.open(path), await EpochRecord.open(path)];
  await Promise.all([first.keep(9n), second.keep(12n), first.keep(10n)]);
  await second.keep(3n);
  await first.keep(11n);
  assert.equal(await EpochRecord.read(path), 12n);
  assert.equal((await EpochRecord.open(path)).highest, 12n);
  assert.ok((await readdir(path)).length <= 2, 'lower ones are forgotten');
});

test('names that are no epochs are left alone', async () => {
  const path = join(folder, 'strange');
  const record = await EpochRecord.open(path);
  await writeFile(join(path, 'note'), 'x');
  await record.keep(5n);
  assert.deepEqual((await readdir(path)).sort(), ['00000000000000000005', 'note']);
  assert.equal(await EpochRecord.read(path), 5n);
});

test('a folder that cannot be written keeps nothing and says so', async () => {
  const path = join(folder, 'file');
  await writeFile(path, '');
  await assert.rejects(EpochRecord.open(path), { name: 'LonglineError', reason: 'unavailable' });
  const record = await EpochRecord.open(join(folder, 'gone'));
  await rm(join(folder, 'gone'), { recursive: true });
  await assert.rejects(record.keep(4n), /leader epochs can't be kept/);
  assert.equal(record.highest, 0n);
});

test('time that lasts counts sleep of the host, and never goes back', () => {
  let [bootS, runningMs] = [100, 5000];
  const elapsed = lastingTime(
    () => bootS,
    () => runningMs,
  );
  assert.equal(elapsed(), 0);
  runningMs += 7;
  assert.equal(elapsed(), 7, 'between two ticks of the uptime');
  bootS += 60;
  assert.equal(elapsed(), 60_000, 'the host slept');
  bootS -= 30;
  assert.equal(elapsed(), 60_000);
});

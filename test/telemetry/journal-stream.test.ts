import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';

const LOGGER = join(import.meta.dirname, '../../src/telemetry/logger.ts');
const PROGRAM = `
import { createLogger } from ${JSON.stringify(LOGGER)};
const log = createLogger({ level: 'debug', name: 'test', journal: process.env['JOURNAL_STREAM'] });
log.debug('a');
log.info('b');
log.child({ part: 'link' }).warn('c');
log.error('d');
`;

it('puts its priority before each line where standard error is the journal, and only there', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-journal-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const linesFor = (stream: (dev: bigint, ino: bigint) => string): readonly string[] => {
    const path = join(folder, 'stderr');
    const file = openSync(path, 'w');
    const { dev, ino } = fstatSync(file, { bigint: true });
    const env = { ...process.env, JOURNAL_STREAM: stream(dev, ino) };
    const { status } = spawnSync(process.execPath, ['--input-type=module', '-e', PROGRAM], {
      env,
      stdio: ['ignore', 'inherit', file],
    });
    closeSync(file);
    assert.equal(status, 0);
    return readFileSync(path, 'utf8').trimEnd().split('\n');
  };
  const marked = linesFor((dev, ino) => `${dev}:${ino}`);
  assert.deepEqual(
    marked.map((line) => line.slice(0, 3)),
    ['<7>', '<6>', '<4>', '<3>'],
  );
  const messages = marked.map((line) => (JSON.parse(line.slice(3)) as { msg: string }).msg);
  assert.deepEqual(messages, ['a', 'b', 'c', 'd']);
  for (const line of linesFor((dev, ino) => `${dev}:${ino + 1n}`)) assert.match(line, /^\{"level":/);
});

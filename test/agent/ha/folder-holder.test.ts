// Who may be ended for a data folder, and who may not: real processes that have real folders, of which some are stopped.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openDataFolder } from '../../../src/agent/data-folder.ts';
import { endFrozenHolder } from '../../../src/agent/ha/folder-holder.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';

const SOURCE = join(import.meta.dirname, '../../../src/agent');

let base: string;
const children: ChildProcess[] = [];
before(async () => {
  base = await mkdtemp(join(tmpdir(), 'longline-holder-'));
});
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(base, { recursive: true, force: true });
});

/** A process that has the folder. It says "held" and then does what `then` is. */
async function holding(folder: string, note: string, then = 'setInterval(() => globalThis.held.path, 1000);') {
  const script = `const { openDataFolder } = await import(${JSON.stringify(join(SOURCE, 'data-folder.ts'))});
    const { noteHolder, forgetHolder } = await import(${JSON.stringify(join(SOURCE, 'ha/folder-holder.ts'))});
    const folder = ${JSON.stringify(folder)};
    globalThis.held = await openDataFolder(folder);
    ${note};
    process.stdout.write('held', () => { ${then} });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  await once(child.stdout, 'data');
  return child;
}

const BUSY = 'for (;;);';
const noted = (epoch: bigint) => `await noteHolder(folder, ${epoch}n)`;

/** Wants the folder for 15 s of a clock that runs fast. */
async function wants(folder: string, epoch = 8n, patch: { mayAct?: () => boolean } = {}, speed = 10): Promise<void> {
  const clock = fastClock(speed);
  const over = new AbortController();
  const wanting = { dataDir: folder, epoch, mayAct: () => true, clock, log: silentLogger, ...patch };
  const ending = endFrozenHolder(wanting, over.signal);
  await Promise.race([ending, clock.sleep(15_000)]);
  over.abort();
  await ending;
}

const alive = (child: ChildProcess) => child.exitCode === null && child.signalCode === null;

for (const [what, note, then, halt] of [
  ['is stopped', noted(7n), undefined, true],
  ['stood by and is stopped', noted(0n), undefined, true],
  ['hangs', noted(7n), BUSY, false],
] as const) {
  test(`a replica that ${what} is ended, and the folder is the next one's`, async () => {
    const folder = join(base, what);
    const child = await holding(folder, note, then);
    if (halt) child.kill('SIGSTOP');
    await assert.rejects(openDataFolder(folder), { reason: 'already_exists' });
    const exited = once(child, 'exit');
    await wants(folder);
    assert.deepEqual(await exited, [null, 'SIGKILL']);
    (await openDataFolder(folder))[Symbol.dispose]();
  });
}

const asItIs = async () => undefined;
const altered = (change: (holder: Record<string, unknown>) => object) => async (folder: string) => {
  const path = join(folder, 'leader-process');
  await writeFile(path, JSON.stringify(change(JSON.parse(await readFile(path, 'utf8')))));
};

test('nobody is ended who gives a sign of life, leads now, is no replica, or only seems to be the one', async () => {
  const spared: [string, ChildProcess, Promise<void>][] = [];
  const sparing = async (what: string, note: string, halt: boolean, alter: (folder: string) => Promise<void>) => {
    const folder = join(base, `spared ${what}`);
    const child = await holding(folder, note);
    await alter(folder);
    if (halt) child.kill('SIGSTOP');
    // One that is alive gets the time that it takes on a slow machine to be so.
    spared.push([what, child, wants(folder, 8n, {}, halt ? 10 : 5)]);
  };
  await sparing('alive', noted(7n), false, asItIs);
  await sparing('of this epoch', noted(8n), true, asItIs);
  await sparing('without election', `${noted(7n)}; await forgetHolder(folder)`, true, asItIs);
  await sparing(
    'began at another time',
    noted(7n),
    true,
    altered((holder) => ({ ...holder, startTicks: '1' })),
  );
  await sparing(
    'before a restart of the host',
    noted(7n),
    true,
    altered((holder) => ({ ...holder, bootId: 'x' })),
  );
  await sparing(
    'elsewhere',
    noted(7n),
    true,
    altered((holder) => ({ ...holder, pidNamespace: 'pid:[1]' })),
  );
  await sparing(
    'nonsense',
    noted(7n),
    true,
    altered(() => ({ pid: 1 })),
  );
  // A copy of the folder names a process that has another one.
  const original = join(base, 'original');
  const stopped = await holding(original, noted(7n));
  const copy = join(base, 'copy');
  await cp(original, copy, { recursive: true });
  stopped.kill('SIGSTOP');
  spared.push(['with another folder', stopped, wants(copy)]);
  const outvoted = join(base, 'outvoted');
  const other = await holding(outvoted, noted(7n));
  other.kill('SIGSTOP');
  spared.push(['not ours to end', other, wants(outvoted, 8n, { mayAct: () => false })]);
  for (const [what, child, wanted] of spared) {
    await wanted;
    // A signal that was sent has ended it by the time that another process has run.
    await once(spawn('true'), 'exit');
    assert.ok(alive(child), what);
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

test('a folder in which nothing can be noted, as on a full disk, is had all the same', async () => {
  const folder = join(base, 'unwritable');
  using held = await openDataFolder(folder);
  await mkdir(join(folder, 'leader-process.new'));
  const lines: string[] = [];
  const { noteHolder } = await import('../../../src/agent/ha/folder-holder.ts');
  await noteHolder(held.path, 8n, { warn: (message) => void lines.push(message) });
  assert.match(lines.join('\n'), /^who has the data folder could not be noted/);
});

test('whoever has the folder itself wants nobody ended', async () => {
  const folder = join(base, 'own');
  using held = await openDataFolder(folder);
  const { noteHolder } = await import('../../../src/agent/ha/folder-holder.ts');
  await noteHolder(held.path, 8n, silentLogger);
  const wanting = { dataDir: folder, epoch: 9n, mayAct: () => true, clock: systemClock, log: silentLogger };
  await endFrozenHolder(wanting, new AbortController().signal);
});

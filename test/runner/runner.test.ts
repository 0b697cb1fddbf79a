// The test runner must not be able to pass by not testing. Proven by running it on small suites as a process of its own.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type CommandResult, runCommand } from '../../deploy/dev/command.ts';
import { type Resource, Schedule, type TestFile } from './schedule.ts';

const RUNNER = join(dirname(import.meta.dirname), 'run.ts');
const HEAD = "import { test, describe } from 'node:test';\n";

const SUITES: Readonly<Record<string, string>> = {
  'good/a.test.ts': `${HEAD}test('one', () => {}); describe('group', () => { test('two', () => {}); });`,
  'good/b.test.ts': `${HEAD}test('three', () => {});`,
  'skip/a.test.ts': `${HEAD}test('one', () => {}); test('two', { skip: 'needs root' }, () => {});`,
  'dynamic/a.test.ts': `${HEAD}test('one', (t) => { t.skip('no engine'); });`,
  'group/a.test.ts': `${HEAD}test('one', () => {}); describe('g', { skip: 'no podman' }, () => { test('two', () => {}); });`,
  'todo/a.test.ts': `${HEAD}test('one', { todo: 'later' }, () => {});`,
  'bad/a.test.ts': `${HEAD}test('one', () => {}); test('two', () => { throw new Error('as planted'); });`,
  'empty/a.test.ts': 'export const nothing = 1;',
  'syntax/a.test.ts': 'import {',
  'leak/a.test.ts': `${HEAD}test('one', () => {}); setInterval(() => {}, 1000);`,
  // Over with its test: only the limit of a test can end it.
  'slow/a.test.ts': `${HEAD}test('one', (t) => new Promise((done) => {
    const timer = setTimeout(done, 600_000);
    t.signal.addEventListener('abort', () => clearTimeout(timer));
  }));`,
  'none/a.ts': 'export {};',
  'host/test/fixtures/engines.ts': 'export const engine = 1;',
  'host/test/fixtures/netns.ts': 'export const lab = 1;',
  'host/test/fixtures/browser.ts': 'export const browser = 1;',
  'host/test/plain.test.ts': `${HEAD}test('one', () => {});`,
  'host/test/direct.test.ts': `${HEAD}import './fixtures/engines.ts';\ntest('one', () => {});`,
  'host/test/indirect.test.ts': `${HEAD}import './suite.ts';\ntest('one', () => {});`,
  'host/test/suite.ts': "export * from './fixtures/engines.ts';",
  'host/test/lab.test.ts': `${HEAD}import './fixtures/netns.ts';\ntest('one', () => {});`,
  'host/test/page.test.ts': `${HEAD}import './fixtures/browser.ts';\ntest('one', () => {});`,
  'host/test/typed.test.ts': `${HEAD}import type { engine } from './fixtures/engines.ts';\ntest('one', () => {});`,
};

describe('npm test', () => {
  let root: string;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'longline-runner-'));
    for (const [path, text] of Object.entries(SUITES)) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), text);
    }
  });
  after(async () => {
    await rm(root, { recursive: true, force: true });
  });

  const run = async (suite: string, noSkip: boolean, ...args: string[]): Promise<CommandResult> =>
    await runCommand([process.execPath, RUNNER, '--root', root, ...args, suite], {
      env: {
        // The runner would take itself for a test file of this one.
        NODE_TEST_CONTEXT: undefined,
        // Files that live no longer than this test would stay as compiled code.
        NODE_COMPILE_CACHE: '',
        ...{ LONGLINE_NO_SKIP: noSkip ? '1' : undefined, NO_COLOR: '1' },
      },
    });

  test('files that pass give code 0 and the totals of all', async () => {
    const result = await run('good', true);
    assert.equal(result.code, 0, result.stdout);
    assert.match(result.stdout, /tests 3\n.*suites 1\n.*pass 3\n.*fail 0\n.*cancelled 0\n.*skipped 0\n/);
  });

  test('a failure gives code 1 and is shown with its message', async () => {
    const result = await run('bad', false);
    assert.equal(result.code, 1);
    assert.match(result.stdout, /as planted/);
    assert.match(result.stdout, /pass 1\n.*fail 1\n/);
  });

  for (const [suite, reason] of [
    ['skip', 'needs root'],
    ['dynamic', 'no engine'],
    ['group', 'no podman'],
    ['todo', 'later'],
  ] as const) {
    test(`LONGLINE_NO_SKIP=1 turns ${suite} into a failure that gives the reason; without it it passes`, async () => {
      const lenient = await run(suite, false);
      assert.equal(lenient.code, 0, lenient.stdout);
      const strict = await run(suite, true);
      assert.equal(strict.code, 1, strict.stdout);
      assert.match(strict.stdout, new RegExp(`LONGLINE_NO_SKIP makes a failure: ${reason}`));
      assert.match(strict.stdout, /fail 1\n.*cancelled 0\n.*skipped 0\n.*todo 0\n/);
    });
  }

  test('a file that runs no test, and one that does not parse, fail', async () => {
    const empty = await run('empty', false);
    assert.equal(empty.code, 1);
    assert.match(empty.stdout, /the file runs no test/);
    assert.equal((await run('syntax', false)).code, 1);
  });

  test('a file that does not end is killed and fails, and so does a test that takes too long', async () => {
    const leak = await run('leak', false, '--file-limit', '2');
    assert.equal(leak.code, 1);
    assert.match(leak.stdout, /did not end within 2 s/);
    const slow = await run('slow', false, '--test-limit', '0.5', '--file-limit', '100');
    assert.equal(slow.code, 1);
    assert.match(slow.stdout, /timed out after 500ms/);
  });

  test('nothing to test, or a wrong argument, is an error of its own', async () => {
    assert.equal((await run('none', false)).code, 2);
    assert.equal((await run('absent', false)).code, 2);
    assert.equal((await run('good', false, '--concurrency', 'many')).code, 2);
  });

  test('what a file takes of the host is known by the fixtures that it reaches', async () => {
    const { stdout } = await run('host/test', false, '--list');
    assert.deepEqual(stdout.trim().split('\n'), [
      'engine     host/test/direct.test.ts',
      'engine     host/test/indirect.test.ts',
      'lab        host/test/lab.test.ts',
      'engine+lab host/test/page.test.ts',
      'plain      host/test/plain.test.ts',
      'plain      host/test/typed.test.ts',
    ]);
  });
});

describe('Schedule', () => {
  const file = (path: string, ...takes: Resource[]): TestFile => ({ path, takes });

  test('what takes most goes first, and never two at a time that take the same', async () => {
    const files = [file('plain'), file('lab', 'lab'), file('engine', 'engine'), file('page', 'engine', 'lab')];
    const schedule = new Schedule(files);
    const page = await schedule.take();
    assert.equal(page?.path, 'page');
    const plain = await schedule.take();
    assert.equal(plain?.path, 'plain');
    const taken: string[] = [];
    const workers = [0, 1].map(async () => taken.push((await schedule.take())!.path));
    schedule.done(plain);
    await new Promise(setImmediate);
    assert.deepEqual(taken, [], 'the rest has to wait for the page');
    schedule.done(page);
    await Promise.all(workers);
    assert.deepEqual(taken, ['engine', 'lab'], 'an engine and a lab do not meet');
  });

  test('files that take the same go one after the other, and a worker ends when none waits', async () => {
    const schedule = new Schedule([file('a', 'engine'), file('b', 'engine')]);
    const first = await schedule.take();
    assert.equal(first?.path, 'a');
    const [second, none] = [schedule.take(), schedule.take()];
    schedule.done(first);
    assert.equal((await second)?.path, 'b');
    assert.equal(await none, undefined);
  });
});

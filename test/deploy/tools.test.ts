import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { Report } from '../../deploy/demo/report.ts';
import { Screen } from '../../deploy/demo/screen.ts';
import { runCommand } from '../../deploy/dev/command.ts';

const ROOT = join(import.meta.dirname, '../..');
const node = process.execPath;

describe('runCommand', () => {
  test('gives exit code and output, and passes input', async () => {
    const script = 'process.stdin.pipe(process.stdout); process.stderr.write("e\\n"); process.exitCode = 3';
    const result = await runCommand([node, '-e', script], { input: 'text' });
    assert.deepEqual([result.code, result.stdout, result.stderr, result.timedOut], [3, 'text', 'e\n', false]);
  });

  test('a program that is not there, one that takes too long and one that a signal ended have codes of their own', async () => {
    const absent = await runCommand(['longline-no-such-program']);
    assert.equal(absent.code, 127);
    assert.match(absent.stderr, /longline-no-such-program/);
    const late = await runCommand([node, '-e', 'setInterval(() => {}, 1000)'], { timeoutMs: 200 });
    assert.deepEqual([late.code, late.timedOut], [124, true]);
    assert.equal((await runCommand([node, '-e', 'process.kill(process.pid, "SIGTERM")'])).code, 143);
  });

  test('output beyond the bound is dropped', async () => {
    const result = await runCommand([node, '-e', 'process.stdout.write("x".repeat(100_000))'], {
      maxOutputBytes: 1000,
    });
    assert.equal(result.stdout, 'x'.repeat(1000));
  });
});

describe('deploy/dev/installed.js', () => {
  const locked = {
    '': {},
    'node_modules/a': { version: '1.0.0' },
    'node_modules/b': { version: '2.0.0', optional: true },
  };
  const verdict = async (installed: object | undefined, binary = true) => {
    const root = await mkdtemp(join(tmpdir(), 'longline-installed-'));
    try {
      const files: Record<string, string> = { 'package-lock.json': JSON.stringify({ packages: locked }) };
      if (installed !== undefined) files['node_modules/.package-lock.json'] = JSON.stringify({ packages: installed });
      if (binary) files['node_modules/.bin/node'] = '';
      for (const [path, text] of Object.entries(files)) {
        await mkdir(dirname(join(root, path)), { recursive: true });
        await writeFile(join(root, path), text);
      }
      const { code, stdout } = await runCommand([node, join(ROOT, 'deploy/dev/installed.js'), root]);
      return code === 0 ? 'installed' : stdout.trim();
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  };

  test('what npm installed is compared with the lock', async () => {
    const a = { 'node_modules/a': { version: '1.0.0' } };
    assert.equal(await verdict(a), 'installed', 'an optional package may be absent');
    assert.equal(await verdict({ ...a, 'node_modules/b': { version: '2.0.0' } }), 'installed');
    assert.equal(await verdict(undefined), 'none are there');
    assert.equal(await verdict({ 'node_modules/a': { version: '0.9.0' } }), 'a should be 1.0.0');
    assert.equal(await verdict({}), 'a should be 1.0.0');
    assert.equal(await verdict({ ...a, 'node_modules/c': { version: '1.0.0' } }), "c isn't in package-lock.json");
    assert.equal(await verdict(a, false), 'Node.js of our own is missing');
  });
});

describe('deploy/dev/setup', () => {
  test('an unknown argument is named, and nothing is done', async () => {
    const { code, stderr } = await runCommand(['bash', join(ROOT, 'deploy/dev/setup'), 'everything']);
    assert.equal(code, 2);
    assert.match(stderr, /unknown argument 'everything'/);
  });
});

describe('the report of the demo', () => {
  const make = () => {
    let text = '';
    const screen = new Screen((part) => {
      text += part;
    }, false);
    const controller = new AbortController();
    return { report: new Report(screen, controller.signal), controller, text: () => text };
  };

  test('is good only if every step gave what was expected, and there was one', async () => {
    const { report, text } = make();
    assert.equal(report.ok, false);
    await report.step('one', 'exit 0', async () => 'exit 0');
    assert.equal(report.ok, true);
    await report.step('two', 'exit 0', async () => 'exit 1');
    assert.equal(report.ok, false);
    report.print();
    assert.match(text(), /✓ {2}one +exit 0 +exit 0/);
    assert.match(text(), /✗ {2}two +exit 0 +exit 1/);
    assert.match(text(), /1 of 2 steps not as expected/);
  });

  test('a step that throws is a row, and the next one still runs', async () => {
    const { report } = make();
    await report.step('broken', 'fine', async () => {
      throw new Error('no such host\nmore');
    });
    await report.step('next', 'fine', async () => 'fine');
    assert.deepEqual(
      report.rows.map(({ step, got, ok }) => [step, got, ok]),
      [
        ['broken', 'no such host', false],
        ['next', 'fine', true],
      ],
    );
  });

  test('an interruption ends it at once', async () => {
    const { report, controller } = make();
    controller.abort(new Error('interrupted'));
    await assert.rejects(
      report.step('late', 'x', async () => 'x'),
      /interrupted/,
    );
    assert.equal(report.rows.length, 0);
  });

  test('output is set in line by line, however it was cut', () => {
    let text = '';
    const screen = new Screen((part) => {
      text += part;
    }, false);
    for (const part of ['a\nb', 'c\n', 'd']) screen.output(Buffer.from(part));
    screen.line('end');
    assert.equal(text, '  │ a\n  │ bc\n  │ d\nend\n');
  });
});

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { runCommand } from '../../deploy/dev/command.ts';
import { missingEntries, platformOf } from '../../deploy/dev/lock.ts';
import { compareTrees, contractBase } from '../../deploy/verify/contract.ts';
import { inspectDocument } from '../../deploy/verify/documents.ts';
import { inspectLicences, isAllowedLicence } from '../../deploy/verify/licences.ts';
import { inspectSizes } from '../../deploy/verify/sizes.ts';
import { inspectWords, machinePathBans } from '../../deploy/verify/words.ts';

async function withFolder(
  files: Readonly<Record<string, string>>,
  use: (root: string) => Promise<void>,
): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'longline-checks-'));
  try {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(join(root, path, '..'), { recursive: true });
      await writeFile(join(root, path), text);
    }
    await use(root);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

const lines = (count: number) => 'let x;\n'.repeat(count);

describe('sizes', () => {
  test('caps of files: source 400, tests 600; above 300 a warning', () => {
    const report = inspectSizes(
      new Map([
        ['src/link/a.ts', lines(400)],
        ['src/link/b.ts', lines(401)],
        ['test/c.test.ts', lines(600)],
        ['test/d.test.ts', lines(601)],
      ]),
    );
    assert.deepEqual(report.findings, [
      'src/link/b.ts: 401 lines, at most 400',
      'test/d.test.ts: 601 lines, at most 600',
    ]);
    assert.ok(report.warnings.includes('src/link/a.ts: 400 lines'));
  });

  test('functions of more than 60 lines, by name, but not groups of tests', () => {
    const body = (count: number, last = '') => `{\n${lines(count - 2)}${last}}`;
    const report = inspectSizes(
      new Map([
        [
          'src/link/a.ts',
          `function fits() ${body(60)}\nconst long = () => ${body(61)};\nclass C { m() ${body(62)} }\n`,
        ],
        [
          'test/a.test.ts',
          `describe('group', () => ${body(70, "test('inner', f);")});\ntest('one', () => ${body(70)});\n`,
        ],
      ]),
    );
    assert.deepEqual(report.findings, [
      'src/link/a.ts:61: long has 61 lines, at most 60',
      'src/link/a.ts:122: m has 62 lines, at most 60',
      'test/a.test.ts:71: (anonymous) has 70 lines, at most 60',
    ]);
  });

  test('a file that does not parse is a finding', () => {
    assert.match(inspectSizes(new Map([['src/link/a.ts', 'function (']])).findings[0]!, /a\.ts:1: doesn't parse/);
  });
});

describe('words', () => {
  const found = (path: string, text: string) => inspectWords(path, text).length;

  test('unfinished work, silenced checks, lone and dead tests, keys and merges are found', () => {
    assert.equal(found('src/a.ts', `// ${'TO'}${'DO'} later`), 1);
    assert.equal(found('src/a.ts', `${'console'}.log(1)`), 1);
    assert.equal(found('src/a.ts', `// ${'@ts-'}ignore`), 1);
    assert.equal(found('test/a.test.ts', `test${'.only'}('x', () => {})`), 1);
    assert.equal(found('test/a.test.ts', `describe${'.skip'}('x', () => {})`), 1);
    assert.equal(found('README.md', `<<<<${'<<<'} HEAD`), 1);
    assert.equal(found('test/key.pem', `-----BEGIN ${'PRIVATE'} KEY-----\n${'A'.repeat(64)}\n`), 1);
    assert.equal(found('src/a.ts', 'const todos = tests.only + skip; // nothing wrong'), 0);
  });

  test('the line is named', () => {
    assert.match(inspectWords('src/a.ts', `x\n\n// ${'FIX'}${'ME'}\n`)[0]!, /^src\/a\.ts:3: /);
  });

  test('paths of the machine are found in any file, common ones are not', () => {
    const bans = machinePathBans('/builds/alice/longline', '/home/alice');
    const hits = (text: string) => inspectWords('docs/a.md', text, bans).length;
    assert.equal(hits('see /builds/alice/longline/src'), 2, 'the checkout and its parent');
    assert.equal(hits('~ is /home/alice'), 1);
    assert.equal(hits('/home/alicepeter and /tmp/x and /root/y'), 0);
    assert.deepEqual(machinePathBans('/tmp/a', '/root').length, 1);
  });
});

describe('licences', () => {
  test('expressions', () => {
    for (const good of ['MIT', 'MIT OR GPL-3.0', '(MIT OR Apache-2.0)', 'MIT AND BSD-3-Clause'])
      assert.ok(isAllowedLicence(good), good);
    for (const bad of ['GPL-3.0', 'MIT AND GPL-3.0', '', 'UNLICENSED', 'SEE LICENSE IN x', '((MIT))']) {
      assert.ok(!isAllowedLicence(bad), bad);
    }
  });

  test('a forbidden or absent licence and an undecided install script are findings', async () => {
    const packages = {
      '': {},
      'node_modules/good': { license: 'MIT' },
      'node_modules/old': {},
      'node_modules/bad': { license: 'AGPL-3.0' },
      'node_modules/none': {},
      'node_modules/script': { license: 'ISC', hasInstallScript: true },
      'node_modules/refused': { license: 'ISC', hasInstallScript: true },
    };
    const files = {
      'package-lock.json': JSON.stringify({ packages }),
      'package.json': '{"allowScripts":{"refused":false}}',
      'node_modules/old/package.json': '{"licenses":[{"type":"MIT"}]}',
    };
    await withFolder(files, async (root) => {
      assert.deepEqual(inspectLicences(root).findings, [
        "bad: licence AGPL-3.0 isn't on the list",
        'none: no licence given',
        'script: runs a script when installed; decide under allowScripts in package.json',
      ]);
    });
  });
});

describe('lock', () => {
  test('entries of absent platform packages are written from what wants them', () => {
    const lock = {
      packages: {
        'node_modules/tool': {
          version: '1.2.3',
          license: 'MIT',
          dev: true,
          optionalDependencies: { '@tool/linux-x64-musl': '1.2.3', '@tool/darwin-arm64': '1.2.3', odd: '^1.0.0' },
        },
        'node_modules/@tool/darwin-arm64': { version: '1.2.3' },
      },
    };
    assert.deepEqual(missingEntries(lock), {
      entries: {
        'node_modules/@tool/linux-x64-musl': {
          version: '1.2.3',
          cpu: ['x64'],
          dev: true,
          libc: ['musl'],
          license: 'MIT',
          optional: true,
          os: ['linux'],
        },
      },
      unknown: ['odd@^1.0.0, wanted by node_modules/tool'],
    });
  });

  test('platforms are read off names', () => {
    assert.deepEqual(platformOf('@x/binding-linux-arm-gnueabihf'), { os: 'linux', cpu: 'arm', libc: 'glibc' });
    assert.deepEqual(platformOf('@x/buf-linux-armv7'), { os: 'linux', cpu: 'arm', libc: undefined });
    assert.deepEqual(platformOf('x-win32-x64'), { os: 'win32', cpu: 'x64', libc: undefined });
    assert.equal(platformOf('left-pad'), undefined);
  });
});

describe('documents', () => {
  test('links, headings and scripts must exist', async () => {
    const files = {
      'README.md':
        '# Top\n[a](docs/a.md) [b](docs/b.md) [c](docs/a.md#second-part) [d](#top) [e](docs/a.md#none) [f](https://x.org)\n`npm run demo` `npm run gone`\n',
      'docs/a.md': '## Second part\n```\n# no heading\n```\n',
    };
    await withFolder(files, async (root) => {
      assert.deepEqual(inspectDocument(root, 'README.md', new Set(['demo'])), [
        'README.md: link to docs/b.md leads nowhere',
        'README.md: docs/a.md has no heading #none',
        'README.md: npm run gone is no script of package.json',
      ]);
    });
  });
});

describe('contract', () => {
  test('generated trees are compared file by file', async () => {
    const files = { 'want/a': '1', 'want/b/c': '2', 'want/d': '3', 'have/a': '1', 'have/b/c': 'x', 'have/e': '4' };
    await withFolder(files, async (root) => {
      const found = await compareTrees(join(root, 'want'), join(root, 'have'));
      assert.deepEqual([...found].sort(), [
        'gen/b/c differs from what buf generates',
        'gen/d is missing',
        "gen/e isn't generated from proto/ any more",
      ]);
    });
  });

  test('what to compare with: nothing, then main while it differs, then the contract before', async () => {
    await withFolder({ 'proto/a.proto': '1' }, async (root) => {
      const who = ['-c', 'user.name=t', '-c', 'user.email=t@localhost'];
      const git = async (...args: string[]) => {
        const result = await runCommand(['git', '-C', root, ...who, ...args]);
        assert.equal(result.code, 0, result.stderr);
        return result.stdout.trim();
      };
      await git('init', '--quiet', '--initial-branch', 'main');
      assert.equal((await contractBase(root, '')).kind, 'none');
      await git('add', '.');
      await git('commit', '--quiet', '-m', 'one');
      const first = await git('rev-parse', 'HEAD');
      assert.deepEqual(await contractBase(root, ''), { kind: 'none', why: 'there is no earlier contract in git' });
      await writeFile(join(root, 'proto/a.proto'), '2');
      assert.deepEqual(await contractBase(root, ''), { kind: 'revision', commit: first, name: 'main' });
      await git('commit', '--quiet', '-am', 'two');
      const before = await contractBase(root, '');
      assert.equal(before.kind === 'revision' && before.commit, first);
      await assert.rejects(contractBase(root, 'absent'), /LONGLINE_BREAKING_BASE is absent/);
    });
  });
});

// The waiting init in a real shell, without a container.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import type { OutputPiece } from '../../../src/capabilities/jobs/ports.ts';
import {
  encodeWarmCommand,
  INIT_SCRIPT,
  initToken,
  MAX_WARM_COMMAND_BYTES,
  RefusalScreen,
  type WarmCommand,
} from '../../../src/capabilities/jobs/warm-init.ts';

const BUSYBOX = '/bin/busybox';
const TOKEN = initToken('one');
const ENV = { PATH: '/usr/bin:/bin', LL: 'from the image', n: 'untouched' };

function run(
  command: Partial<WarmCommand>,
  input: string | Buffer = '',
): { code: number | null; out: string; err: string } {
  const whole: WarmCommand = { argv: ['true'], env: {}, workingDir: '', withInput: false, ...command };
  const encoded = encodeWarmCommand(whole);
  assert.ok(encoded !== undefined);
  const ended = spawnSync(BUSYBOX, ['sh', '-c', INIT_SCRIPT, TOKEN], {
    input: Buffer.concat([encoded, Buffer.from(input)]),
    env: ENV,
    cwd: '/',
  });
  return { code: ended.status, out: ended.stdout.toString(), err: ended.stderr.toString() };
}

suite('the waiting init', { skip: existsSync(BUSYBOX) ? false : 'needs busybox-static' }, () => {
  test('becomes any command with any environment', () => {
    const text = fc.string({ unit: 'binary', maxLength: 40 }).map((value) => value.replaceAll('\0', ''));
    const special = fc.constantFrom(
      '',
      '\n',
      '\n\n',
      ' ',
      '*',
      '\\',
      "'",
      '"$(id)`',
      '-n',
      'é\u0081\u0088\n',
      '%s',
      '~',
    );
    const word = fc.oneof(text, special);
    const name = fc.stringMatching(/^J_[A-Za-z0-9_]{0,8}$/);
    fc.assert(
      fc.property(fc.array(word, { maxLength: 6 }), fc.dictionary(name, word, { maxKeys: 4 }), (args, env) => {
        const script = 'for a; do printf "%s\\0" "$a"; done; for v in "$@"; do :; done; env -0 | sort -z | grep -z ^J_';
        const ended = run({ argv: ['sh', '-c', script, 'name', ...args], env });
        const parts = ended.out.split('\0').slice(0, -1);
        assert.deepEqual(parts.slice(0, args.length), args);
        assert.deepEqual(Object.fromEntries(parts.slice(args.length).map((part) => divide(part))), { ...env });
      }),
      { numRuns: 60 },
    );
  });

  test('leaves nothing of itself in the environment and the open files', () => {
    const ended = run({ argv: ['/usr/bin/env'] });
    assert.deepEqual(
      ended.out.trim().split('\n').sort(),
      Object.entries(ENV)
        .map(([key, value]) => `${key}=${value}`)
        .sort(),
    );
  });

  test('leaves the input behind the command to the job, or gives it none', () => {
    const tail = 'rest\nof the input\n\n';
    assert.equal(run({ argv: ['cat'], withInput: true }, tail).out, tail);
    assert.equal(run({ argv: ['cat'], withInput: false }, tail).out, '');
  });

  test('keeps the exit code, the folder and the name of the program', () => {
    assert.equal(run({ argv: ['sh', '-c', 'exit 42'] }).code, 42);
    assert.equal(run({ argv: ['pwd'], workingDir: '/tmp' }).out, '/tmp\n');
    assert.equal(run({ argv: ['sh', '-c', 'tr "\\0" , </proc/$$/cmdline'] }).out.split(',')[0], 'sh');
  });

  test('refuses what it can not become, beginning with its token', () => {
    for (const command of [
      { argv: ['no-such-program'] },
      { argv: ['/no/such/program'] },
      { argv: ['/etc/passwd'] },
      { argv: ['/tmp'] },
      { argv: ['true'], workingDir: '/no/such/folder' },
    ]) {
      const ended = run(command);
      assert.ok(ended.err.startsWith(`${TOKEN}: `), ended.err);
      assert.equal(ended.out, '');
    }
    const cut = spawnSync(BUSYBOX, ['sh', '-c', INIT_SCRIPT, TOKEN], { input: '0\n', env: ENV });
    assert.ok(cut.stderr.toString().startsWith(`${TOKEN}: `));
  });

  test('is not given what a shell would change, or what is too long for it', () => {
    const command: WarmCommand = { argv: ['true'], env: {}, workingDir: '', withInput: false };
    for (const name of ['IFS', 'PWD', 'LL__x', 'LC_ALL'])
      assert.equal(encodeWarmCommand({ ...command, env: { [name]: 'x' } }), undefined);
    assert.equal(encodeWarmCommand({ ...command, argv: ['x'.repeat(MAX_WARM_COMMAND_BYTES)] }), undefined);
  });
});

suite('the screen for refusals', () => {
  const outputOf = async (pieces: readonly OutputPiece[], screen = new RefusalScreen(TOKEN)) => {
    const passed: OutputPiece[] = [];
    const source = (async function* () {
      yield* pieces;
    })();
    for await (const piece of screen.screen(source)) passed.push({ ...piece, data: Uint8Array.from(piece.data) });
    const text = (stream: string) =>
      Buffer.concat(passed.filter((piece) => piece.stream === stream).map((piece) => piece.data)).toString();
    return { stdout: text('stdout'), stderr: text('stderr'), refusal: screen.refusal };
  };

  test('lets everything but a refusal through unchanged, however it is cut', async () => {
    const texts = fc.constantFrom(`${TOKEN}: gone`, `${TOKEN}`, TOKEN.slice(0, 5), 'error\n', `x${TOKEN}: y`, '');
    await fc.assert(
      fc.asyncProperty(texts, fc.integer({ min: 1, max: 9 }), fc.boolean(), async (text, size, first) => {
        const pieces: OutputPiece[] = first ? [{ stream: 'stdout', data: Buffer.from('out') }] : [];
        for (let at = 0; at < text.length; at += size) {
          pieces.push({ stream: 'stderr', data: Buffer.from(text.slice(at, at + size)) });
        }
        const { stdout, stderr, refusal } = await outputOf(pieces);
        const refused = !first && text.startsWith(`${TOKEN}: `);
        assert.equal(refusal, refused ? 'gone' : undefined);
        assert.equal(stderr, refused ? '' : text);
        assert.equal(stdout, first ? 'out' : '');
      }),
    );
  });
});

function divide(assignment: string): [string, string] {
  const at = assignment.indexOf('=');
  return [assignment.slice(0, at), assignment.slice(at + 1)];
}

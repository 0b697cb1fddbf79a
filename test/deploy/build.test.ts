// The bundle and the launcher that runs it: never a bundle of other sources, and only what belongs in it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { LEFT_OUT, stubOf, writeBundle } from '../../deploy/build/bundle.ts';

/** Bundles that live no longer than this test would stay as compiled code. */
const env = { ...process.env, NODE_COMPILE_CACHE: '' };
const execute = promisify(execFile);
const run = (program: string, args: readonly string[]) => execute(program, args, { env });
const root = join(import.meta.dirname, '../..');
/** Has a process say at its end which modules of Node it loaded. */
const TELLS_LOADED = `data:text/javascript,${encodeURIComponent("process.on('exit', () => process.stdout.write(process.moduleLoadList.join('\\n')))")}`;

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-build-'));
});
after(async () => await rm(folder, { recursive: true, force: true }));

test('the bundle runs, and holds nothing that only unused parts of packages load', async () => {
  // Below the packages, which it finds those in that are loaded from there.
  const out = await mkdtemp(join(root, 'node_modules/.bundle-test-'));
  try {
    const inputs = await writeBundle(root, out);
    for (const unwanted of [
      'node_modules/ssh2/',
      'node_modules/protobufjs/',
      'node_modules/@connectrpc/connect-web/',
    ]) {
      assert.deepEqual(
        inputs.filter((path) => path.includes(unwanted)),
        [],
      );
    }
    assert.ok(inputs.includes('src/agent/agent.ts'));
    const { stdout } = await run(process.execPath, ['--', join(out, 'cli/main.js'), 'agent', '--help']);
    assert.match(stdout, /Usage: longline agent/);
    const version = await run(process.execPath, ['--', join(out, 'cli/main.js'), 'version', '--json']);
    const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
    assert.equal(JSON.parse(version.stdout).version, manifest.version);
    // It ends for want of a folder, with all loaded that an agent needs before it dials.
    const start = ['agent', '--data-dir', '/dev/null/none', '--controller', 'https://127.0.0.1:1'];
    const args = ['--import', TELLS_LOADED, join(out, 'cli/main.js'), ...start];
    const ended = await run(process.execPath, args).catch((error: { stdout: string }) => error);
    assert.match(ended.stdout, /NativeModule http2\n/);
    assert.doesNotMatch(ended.stdout, /undici/, 'fetch, which an agent never calls, is not loaded');
  } finally {
    await rm(out, { recursive: true, force: true });
  }
});

test('what is left out says so when it is reached', async () => {
  const [ssh] = LEFT_OUT;
  await writeFile(join(folder, 'stub.cjs'), stubOf(ssh!));
  const { default: reached } = (await import(join(folder, 'stub.cjs'))) as { default: () => void };
  assert.throws(reached, /ssh:\/\/ \(use unix:\/\/ or tcp:\/\/\): not part of this bundle/);
});

test('no bundle is made of what imports a CommonJS package on demand, as it would have none of its names', async () => {
  const planted = join(folder, 'planted');
  await mkdir(join(planted, 'src/cli'), { recursive: true });
  await mkdir(join(planted, 'node_modules/plain'), { recursive: true });
  await writeFile(join(planted, 'node_modules/plain/index.js'), 'exports.createClient = () => undefined;');
  const main = "const { createClient } = await import('plain');\ncreateClient();\n";
  await writeFile(join(planted, 'src/cli/main.ts'), main);
  const expected = /no names of node_modules\/plain\/index\.js; import it plainly/;
  await assert.rejects(writeBundle(planted, join(planted, 'dist')), expected);
});

test('a bundle is run only while its sources are what it was made from', async () => {
  const copy = join(folder, 'checkout');
  for (const path of ['deploy/bin', 'deploy/build']) await cp(join(root, path), join(copy, path), { recursive: true });
  for (const name of ['package.json', 'package-lock.json']) await cp(join(root, name), join(copy, name));
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'));
  await mkdir(join(copy, 'src/cli'), { recursive: true });
  await mkdir(join(copy, 'gen'));
  const source = (text: string) => writeFile(join(copy, 'src/cli/main.ts'), `process.stdout.write('${text}');`);
  await source('source');
  const launch = async (word: string) => await run(join(copy, 'deploy/bin/longline'), [word]);
  assert.deepEqual(await launch('agent'), { stdout: 'source', stderr: '' });
  const fingerprint = (await run(join(copy, 'deploy/build/fingerprint'), [])).stdout.trim();
  await mkdir(join(copy, 'dist', fingerprint, 'cli'), { recursive: true });
  await writeFile(join(copy, 'dist', fingerprint, 'cli/main.js'), "process.stdout.write('bundle');");
  assert.deepEqual(await launch('agent'), { stdout: 'bundle', stderr: '' });
  assert.deepEqual(await launch('controller'), { stdout: 'bundle', stderr: '' });
  assert.deepEqual(await launch('job'), { stdout: 'source', stderr: '' });
  // As long as it is: neither size nor time need tell.
  await source('edited');
  const edited = await launch('agent');
  assert.equal(edited.stdout, 'edited');
  assert.match(edited.stderr, /no bundle of these sources; .*npm run build/);
  assert.deepEqual(await readdir(join(copy, 'dist')), [fingerprint]);
});

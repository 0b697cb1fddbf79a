// From registries into the cache, with everything between them real.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { hash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { ArtifactCache } from '../../../src/agent/programs/artifact-cache.ts';
import { encodeSpec } from '../../../src/agent/programs/registry-access.ts';
import type { ArtifactSource } from '../../../src/core/programs/artifact-source.ts';
import { type DialectName, HttpRegistry } from '../../../src/platform/registry/http-registry.ts';
import { AegisfluxRegistry } from '../../fixtures/aegisflux-registry.ts';
import { LonglineRegistry } from '../../fixtures/longline-registry.ts';
import { RecordedLog, scratchFolder, until } from '../../link/scratch.ts';

const BYTES = randomBytes(3_000_000);
const HEX = hash('sha256', BYTES);
const never = new AbortController().signal;

function client(baseUrl: string, dialect: DialectName = 'longline'): HttpRegistry {
  const access = async () => ({ baseUrl, headers: {}, tls: {} });
  return new HttpRegistry({ dialect, hostId: 'host-1', access, encode: encodeSpec });
}

const cacheIn = (folder: string, registry: ArtifactSource) =>
  new ArtifactCache({ folder, sources: { registry }, log: new RecordedLog() });

/** Sends the first bytes of what was asked for and then nothing, like a network that went away. */
function stallAfter(bytes: number): LonglineRegistry['fault'] {
  return ({ url = '', headers }, response) => {
    if (!url.includes('artifacts')) return false;
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    const length = { 'content-length': BYTES.length - from };
    const range = { 'content-range': `bytes ${from}-${BYTES.length - 1}/${BYTES.length}` };
    response.writeHead(from === 0 ? 200 : 206, from === 0 ? length : { ...length, ...range });
    response.write(BYTES.subarray(from, from + bytes));
    return true;
  };
}

suite('artifacts of registries', () => {
  test('go on where they were after each kill -9 of whoever fetched them', async () => {
    await using folder = await scratchFolder();
    await using registry = await LonglineRegistry.start();
    const digest = registry.store(BYTES);
    registry.fault = stallAfter(600_000);
    const part = join(folder.path, `${HEX}.part`);
    const size = async () => (await stat(part).catch(() => undefined))?.size ?? 0;
    for (let kill = 1; kill <= 3; kill += 1) {
      const process_ = spawn(process.execPath, [
        join(import.meta.dirname, 'fetch-process.ts'),
        folder.path,
        registry.url,
        digest,
      ]);
      let bytes = 0;
      const watch = setInterval(() => size().then((now) => (bytes = now)), 5);
      await until(`${kill} parts are there`, () => bytes >= kill * 600_000);
      clearInterval(watch);
      process_.kill('SIGKILL');
      await once(process_, 'exit');
    }
    registry.fault = () => false;
    using source = client(registry.url);
    assert.ok(BYTES.equals(await cacheIn(folder.path, source).get(digest, 'registry', never)));
    assert.deepEqual(
      registry.requests.map(({ headers }) => headers.range),
      [undefined, 'bytes=600000-', 'bytes=1200000-', 'bytes=1800000-'],
    );
    assert.deepEqual(await readdir(folder.path), [HEX]);
  });

  test('of AegisFlux come the same way, from their start', async () => {
    await using folder = await scratchFolder();
    await using registry = await AegisfluxRegistry.start();
    await registry.assign({ name: 'p', version: '1', type: 'program', data: BYTES.toString('base64') }, 'host-1');
    using source = client(registry.url, 'aegisflux');
    const cache = cacheIn(folder.path, source);
    const digest = `sha256:${HEX}`;
    const [first, second] = await Promise.all([1, 2].map(() => cache.get(digest, 'registry', never)));
    assert.ok(BYTES.equals(first!) && BYTES.equals(second!));
    assert.equal(registry.requests.filter((one) => one.endsWith('/binary')).length, 1);
    assert.deepEqual(registry.violations, []);
  });

  test('that lie are found out, and what they sent is not kept', async () => {
    await using folder = await scratchFolder();
    await using registry = await LonglineRegistry.start();
    const digest = `sha256:${hash('sha256', 'what was signed')}`;
    registry.artifacts.set(digest, Buffer.from('something else'));
    using source = client(registry.url);
    const cache = cacheIn(folder.path, source);
    await assert.rejects(cache.get(digest, 'registry', never), { reason: 'invalid', message: /14 bytes came/ });
    registry.artifacts.set(digest, Buffer.from('what was signed'));
    assert.equal(String(await cache.get(digest, 'registry', never)), 'what was signed');
  });

  test('that are too large are given up at once, also where the size is not told', async () => {
    await using folder = await scratchFolder();
    await using registry = await LonglineRegistry.start();
    const digest = `sha256:${'e'.repeat(64)}`;
    let sent = 0;
    const huge: LonglineRegistry['fault'] = (_, response) => {
      const piece = Buffer.alloc(1024 * 1024);
      const more = () => {
        while (!response.destroyed) {
          sent += piece.length;
          if (!response.write(piece)) return void response.once('drain', more);
        }
      };
      more();
      return true;
    };
    registry.fault = huge;
    using source = client(registry.url);
    const cache = cacheIn(folder.path, source);
    await assert.rejects(cache.get(digest, 'registry', never), { reason: 'limit', message: /at most 16777216/ });
    assert.ok(sent < 64 * 1024 * 1024, `${sent} bytes were taken`);
    registry.fault = (request, response) => {
      response.writeHead(200, { 'content-length': 2 ** 40 });
      return huge(request, response);
    };
    await assert.rejects(cache.get(digest, 'registry', never), {
      reason: 'limit',
      message: /1099511627776 bytes or more/,
    });
    assert.deepEqual(await readdir(folder.path), []);
  });
});

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { suite, test } from 'node:test';
import { LonglineError } from '../../../src/core/errors.ts';
import { LonglineRegistry } from '../../fixtures/longline-registry.ts';
import { failsWith, readAll, registryClient } from './registry-harness.ts';

const BYTES = randomBytes(500_000);

/** Sends the head of what was asked for, and a piece of it, then hangs up. */
function cutAfter(bytes: number) {
  return ({ url = '', headers }: IncomingMessage, response: ServerResponse): boolean => {
    if (!url.includes('artifacts')) return false;
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    const size = BYTES.length;
    if (from === 0) response.writeHead(200, { 'content-length': size, etag: '"one"' });
    else
      response.writeHead(206, { 'content-range': `bytes ${from}-${size - 1}/${size}`, 'content-length': size - from });
    response.write(BYTES.subarray(from, from + bytes), () => setImmediate(() => response.destroy()));
    return true;
  };
}

suite('an artifact of a registry', () => {
  test('comes whole, and from an offset', async () => {
    await using registry = await LonglineRegistry.start();
    const digest = registry.store(BYTES);
    using client = registryClient({ baseUrl: registry.url });
    assert.ok(BYTES.equals(await readAll(client, digest)));
    assert.ok(BYTES.subarray(123_456).equals(await readAll(client, digest, 123_456)));
    assert.deepEqual(registry.paths, [`artifacts/${digest}`, `artifacts/${digest}`]);
    assert.deepEqual(
      registry.requests.map((one) => one.headers.range),
      [undefined, 'bytes=123456-'],
    );
  });

  test('begins anew where the registry knows no ranges, or has less than was there', async () => {
    await using registry = await LonglineRegistry.start();
    const digest = registry.store(BYTES);
    registry.ranges = false;
    using client = registryClient({ baseUrl: registry.url });
    assert.ok(BYTES.equals(await readAll(client, digest, 1000)));
    assert.ok(BYTES.equals(await readAll(client, digest, 900_000)));
    assert.deepEqual(
      registry.requests.map((one) => one.headers.range),
      ['bytes=1000-', 'bytes=900000-', undefined],
    );
  });

  test('goes on where it was when the connection breaks, and holds the rest to the same tag', async () => {
    await using registry = await LonglineRegistry.start();
    const digest = registry.store(BYTES);
    let cuts = 0;
    registry.fault = (request, response) => {
      cuts += 1;
      return cuts <= 3 && cutAfter(100_000)(request, response);
    };
    using client = registryClient({ baseUrl: registry.url });
    assert.ok(BYTES.equals(await readAll(client, digest)));
    const [first, second] = registry.requests;
    assert.equal(first!.headers['if-range'], undefined);
    assert.equal(second!.headers['if-range'], '"one"');
    assert.match(second!.headers.range!, /^bytes=[1-9]\d*-$/);
  });

  test('is given up after a few tries that bring nothing', async () => {
    await using registry = await LonglineRegistry.start();
    const digest = registry.store(BYTES);
    registry.fault = cutAfter(0);
    using client = registryClient({ baseUrl: registry.url });
    await assert.rejects(readAll(client, digest), failsWith('unavailable', /artifacts\/sha256:[0-9a-f]{64}/));
    assert.equal(registry.requests.length, 3);
  });

  test('is given up when it trickles, stalls, or is no longer wanted', async () => {
    await using registry = await LonglineRegistry.start();
    const digest = registry.store(BYTES);
    registry.fault = (_, response) => {
      response.writeHead(200, { 'content-length': 1000 });
      const trickle = setInterval(() => response.write('.'), 5);
      response.once('close', () => clearInterval(trickle));
      return true;
    };
    using slow = registryClient({ baseUrl: registry.url }, { limits: { downloadMs: 100 } });
    await assert.rejects(readAll(slow, digest), failsWith('late', /did not come within 100 ms/));
    const stop = new AbortController();
    using client = registryClient({ baseUrl: registry.url });
    const reading = (async () => {
      for await (const _ of client.read(digest, 0, stop.signal)) stop.abort(new LonglineError('cancelled', 'unwanted'));
    })();
    await assert.rejects(reading, failsWith('cancelled', /unwanted/));
    registry.fault = (_, response) => {
      response.writeHead(200, { 'content-length': 1000 }).flushHeaders();
      return true;
    };
    using stalled = registryClient({ baseUrl: registry.url }, { limits: { stallMs: 30 } });
    await assert.rejects(readAll(stalled, digest), failsWith('late', /sent nothing for 30 ms/));
  });

  test('is not there, or not in a form that was asked for', async () => {
    await using registry = await LonglineRegistry.start();
    const digest = registry.store(BYTES);
    const other = `sha256:${'b'.repeat(64)}`;
    using client = registryClient({ baseUrl: registry.url });
    await assert.rejects(readAll(client, other), failsWith('not_found', /gives no artifact: HTTP 404/));
    assert.equal(registry.requests.length, 1);
    const wrong: readonly [number, Record<string, string>, RegExp][] = [
      [
        206,
        { 'content-range': 'bytes 0-9/10' },
        /sends the range "bytes 0-9\/10" where bytes from 100 on were asked for/,
      ],
      [206, {}, /sends the range ""/],
      [200, { 'content-encoding': 'gzip' }, /sends gzip where plain bytes were asked for/],
      [403, {}, /HTTP 403; it doesn't take/],
      [500, {}, /HTTP 500/],
    ];
    for (const [status, headers, message] of wrong) {
      registry.fault = (_, response) => {
        response.writeHead(status, headers).end('0123456789');
        return true;
      };
      await assert.rejects(readAll(client, digest, 100), failsWith('unavailable', message));
    }
    await assert.rejects(readAll(client, '../../etc/passwd'), failsWith('invalid', /is no digest/));
  });
});

// The lock over TLS, on a real Redis: only what a trusted CA has signed for the name that was asked for gets a password to see.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { RedisLock } from '../../../src/platform/redis/redis-lock.ts';
import { freePort } from '../../fixtures/nats-server.ts';
import { missingRedis, RedisServer } from '../../fixtures/redis-server.ts';
import { makePki, type TestPki } from '../../link/certificates.ts';
import { scratchFolder } from '../../link/scratch.ts';

const never = new AbortController().signal;

describe('lock in Redis over TLS', { skip: missingRedis ?? false }, () => {
  const owned = new AsyncDisposableStack();
  let pki: TestPki;
  let port: number;
  before(async () => {
    pki = await makePki();
    const folder = owned.use(await scratchFolder()).path;
    const files = { ca: pki.authority, cert: pki.server.certificate, key: pki.server.privateKey };
    for (const [name, pem] of Object.entries(files)) await writeFile(join(folder, name), pem, { mode: 0o600 });
    port = await freePort();
    owned.use(
      await RedisServer.start(
        ...['--tls-port', String(port), '--tls-cert-file', join(folder, 'cert'), '--tls-key-file', join(folder, 'key')],
        ...['--tls-ca-cert-file', join(folder, 'ca'), '--tls-auth-clients', 'no'],
        ...['--bind', '127.0.0.1 127.0.0.2', '--requirepass', 'swordfish'],
      ),
    );
  });
  after(() => owned.disposeAsync());

  const lock = (url: string, init: { trustedCertificates?: string } = { trustedCertificates: pki.authority }) =>
    new RedisLock({
      url,
      agentId: 'a',
      holder: 'one',
      ttlMs: 60_000,
      elapsed: () => 0,
      password: 'swordfish',
      ...init,
    });
  const fails = async (url: string, message: RegExp, init?: { trustedCertificates?: string }) => {
    await using one = lock(url, init);
    await assert.rejects(one.acquire(0n, never), (error: Error & { reason?: string }) => {
      assert.equal(error.reason, 'unavailable');
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /swordfish/);
      return true;
    });
  };

  test('by name and by address, with a CA of its own', async () => {
    for (const host of ['localhost', '127.0.0.1']) {
      await using one = lock(`rediss://${host}:${port}/0`);
      const answer = await one.acquire(0n, never);
      assert.equal(answer.kind, 'acquired');
      assert.equal(await one.renew(answer.epoch!, never), true);
    }
  });

  test('a CA that is not trusted, whatever others are, says which setting names it', async () => {
    const told = /certificate.*ha\.redis_ca_file/;
    await fails(`rediss://localhost:${port}`, told, {});
    await fails(`rediss://localhost:${port}`, told, { trustedCertificates: (await makePki()).authority });
  });

  test('a certificate for another name says which it is for', async () => {
    await fails(`rediss://127.0.0.2:${port}`, /127\.0\.0\.2.*not in the cert's list/);
  });

  test('a port that speaks TLS asked without says so at once', async () => {
    await fails(`redis://127.0.0.1:${port}`, /127\.0\.0\.1:\d+: .*(closed|reset|disconnected)/i);
  });
});

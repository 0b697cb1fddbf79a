import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { describe, it } from 'node:test';
import { type HttpRoute, HttpServer, type HttpServerOptions, jsonAnswer } from '../../../src/agent/http/http-server.ts';
import { Secret } from '../../../src/core/config/secret.ts';
import { silentLogger } from '../../../src/core/logger.ts';

const TOKEN = 'a-token-of-some-length';
const ROUTES: readonly HttpRoute[] = [
  { path: '/healthz', open: true, answer: async () => jsonAnswer(200, { status: 'ok' }) },
  { path: '/programs', open: false, answer: async () => jsonAnswer(200, { programs: [] }) },
  { path: '/broken', open: true, answer: async () => Promise.reject(new Error('the inside')) },
];

async function serve(more: Partial<HttpServerOptions> = {}): Promise<HttpServer> {
  const server = new HttpServer({
    ...{ bindAddress: '127.0.0.1', bindPort: 0, routes: ROUTES, log: silentLogger },
    ...more,
  });
  await server.open();
  return server;
}

/** Status, headers and body of a request, with headers that fetch would not send. */
async function get(
  { port }: HttpServer,
  path: string,
  headers: Readonly<Record<string, string>> = {},
  host = '127.0.0.1',
  method = 'GET',
) {
  const asked = request({ host, port, path, headers, method, agent: false });
  asked.end();
  const [response] = await once(asked, 'response');
  const pieces: Buffer[] = [];
  for await (const piece of response) pieces.push(piece);
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces).toString() };
}

/** An address of this host that isn't loopback. */
const ownAddress = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ internal, family }) => !internal && family === 'IPv4')?.address;

describe('HTTP server of the agent', () => {
  it('answers by its table, reads only, and keeps nothing', async () => {
    await using server = await serve();
    const health = await get(server, '/healthz?verbose=1');
    assert.deepEqual([health.status, health.body], [200, '{"status":"ok"}\n']);
    assert.deepEqual(
      [health.headers['cache-control'], health.headers['x-content-type-options']],
      ['no-store', 'nosniff'],
    );
    const head = await get(server, '/healthz', {}, '127.0.0.1', 'HEAD');
    assert.deepEqual([head.status, head.body], [200, '']);
    assert.equal((await get(server, '/healthz', {}, '127.0.0.1', 'DELETE')).status, 405);
    const unknown = await get(server, '/healthz/');
    assert.deepEqual([unknown.status, unknown.body], [404, 'there are /healthz, /programs, /broken\n']);
    const broken = await get(server, '/broken');
    assert.equal(broken.status, 503);
    assert.doesNotMatch(broken.body, /inside/);
  });

  it('tells what is not open on loopback, but not to browsers and proxies there', async () => {
    await using server = await serve();
    assert.equal((await get(server, '/programs')).status, 200);
    assert.equal((await get(server, '/programs', { host: `localhost:${server.port}` })).status, 200);
    assert.equal((await get(server, '/programs', { host: '[::1]' })).status, 200);
    for (const headers of [
      { host: 'attacker.example' },
      { host: '127.0.0.1.attacker.example' },
      { 'x-forwarded-for': '203.0.113.9' },
      { forwarded: 'for=203.0.113.9' },
      { via: '1.1 proxy' },
    ]) {
      const refused = await get(server, '/programs', headers);
      assert.equal(refused.status, 403, JSON.stringify(headers));
      assert.match(refused.body, /http\.token/);
      assert.equal((await get(server, '/healthz', headers)).status, 200, 'what is open stays open');
    }
  });

  it('takes the token from anywhere, and no other', async () => {
    await using server = await serve({ token: new Secret(TOKEN) });
    const bearer = (token: string) => ({ authorization: `Bearer ${token}`, host: 'host.example.net' });
    assert.equal((await get(server, '/programs', bearer(TOKEN))).status, 200);
    assert.equal((await get(server, '/programs', { ...bearer(TOKEN), authorization: `bearer ${TOKEN}` })).status, 200);
    for (const token of ['x', `${TOKEN}x`, TOKEN.slice(1), TOKEN.toUpperCase()]) {
      const refused = await get(server, '/programs', bearer(token));
      assert.deepEqual([refused.status, refused.headers['www-authenticate']], [401, 'Bearer'], token);
    }
    const wrong = await get(server, '/programs', { authorization: 'Bearer wrong' });
    assert.equal(wrong.status, 401, 'a wrong one is told also where none is needed');
    assert.equal((await get(server, '/programs', { host: 'host.example.net' })).status, 401);
    assert.equal((await get(server, '/programs', { authorization: `Basic ${TOKEN}` })).status, 200, 'that is none');
  });

  it('listens on all interfaces where no address is named, and tells others only what is open', async () => {
    assert.ok(ownAddress !== undefined, 'this host has no address but loopback');
    await using server = await serve({ bindAddress: '' });
    assert.equal((await get(server, '/healthz', {}, ownAddress)).status, 200);
    assert.equal((await get(server, '/programs', {}, ownAddress)).status, 403);
    const pretending = await get(server, '/programs', { host: 'localhost' }, ownAddress);
    assert.equal(pretending.status, 403, 'whatever name is asked for');
    assert.equal((await get(server, '/programs')).status, 200, 'on loopback');
    assert.equal((await get(server, '/programs', {}, '::1')).status, 200);
  });

  it('answers what is no HTTP, or too much of it, with an error', async () => {
    await using server = await serve();
    const say = async (text: string): Promise<string> => {
      const socket = connect(server.port, '127.0.0.1');
      socket.end(text);
      const pieces: Buffer[] = [];
      for await (const piece of socket) pieces.push(piece as Buffer);
      return Buffer.concat(pieces).toString();
    };
    assert.match(await say('hello\r\n\r\n'), /^HTTP\/1\.1 400/);
    assert.match(await say(`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`), /^HTTP\/1\.1 431/);
    assert.equal((await get(server, `/${'x'.repeat(4000)}`)).status, 404);
  });

  it('closes at once, whoever is connected', async () => {
    const server = await serve();
    const idle = connect(server.port, '127.0.0.1');
    await once(idle, 'connect');
    idle.write('GET /healthz HTTP/1.1\r\n');
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    // By a reset, as nobody waits for it.
    idle.on('error', () => undefined).on('close', () => resolve());
    await server[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    await closed;
  });
});

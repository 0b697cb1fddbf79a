// What peers that are broken or hostile can do to the port: nothing to others, and nothing that stays.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { afterEach, it } from 'node:test';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import fc from 'fast-check';
import { hashSecret, newSecret } from '../../../src/controller/identity/secrets.ts';
import { AgentClient, type AgentCredentials, echo, enrollAgent } from './agent-client.ts';
import { FrontFixture, type FrontFixtureOptions } from './front-fixture.ts';

const CHECK = '/grpc.health.v1.Health/Check';
const open = new Set<Socket>();

afterEach(() => {
  for (const socket of open) socket.destroy();
  open.clear();
});

function tls(fixture: FrontFixture, protocol: 'h2' | 'http/1.1', identity?: AgentCredentials): TLSSocket {
  const client = identity === undefined ? {} : { key: identity.key, cert: identity.chain };
  const socket = connectTls({
    host: '127.0.0.1',
    servername: 'localhost',
    port: fixture.port,
    ca: fixture.ca,
    ALPNProtocols: [protocol],
    ...client,
  });
  open.add(socket);
  return socket.on('error', () => undefined);
}

/** Unlike `once`, doesn't mind an error before. */
async function closed(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once('close', () => resolve());
  if (!socket.closed) await promise;
}

async function enrolled(fixture: FrontFixture, agentId = 'host-1'): Promise<AgentCredentials> {
  const secret = newSecret();
  await fixture.repositories.enrollmentTokens.insert({
    id: agentId,
    secretHash: hashSecret(secret),
    usesTotal: 1,
    usesLeft: 1,
    labels: {},
    agentId: '',
    createdAtMs: 0,
    expiresAtMs: Number.MAX_SAFE_INTEGER,
    revoked: false,
  });
  return await enrollAgent(fixture, agentId, secret);
}

/** Runs a check against the port and then shows that it still serves and holds nothing. */
async function survives(options: FrontFixtureOptions, attack: (fixture: FrontFixture) => Promise<void>): Promise<void> {
  await using fixture = await FrontFixture.start(options);
  await attack(fixture);
  for (const socket of open) socket.destroy();
  while (fixture.front.connectionCount > 0) await new Promise((resolve) => setImmediate(resolve));
  const session = connectHttp2(fixture.url, { ca: fixture.ca });
  const request = session.request({ ':method': 'POST', ':path': CHECK, 'content-type': 'application/json' });
  request.end('{}');
  const [headers] = (await once(request, 'response')) as [{ ':status': number }];
  request.resume();
  await once(request, 'close');
  session.close();
  await once(session, 'close');
  assert.equal(headers[':status'], 200);
  while (fixture.front.connectionCount > 0) await new Promise((resolve) => setImmediate(resolve));
}

it('outlives garbage instead of TLS, HTTP/1.1, HTTP/2 and gRPC', async () => {
  await survives({}, async (fixture) => {
    const identity = await enrolled(fixture);
    const garbage = fc.sample(fc.uint8Array({ minLength: 1, maxLength: 2000 }), { numRuns: 24, seed: 7 });
    const ends = garbage.flatMap((bytes) => {
      const tcp = connectTcp(fixture.port, '127.0.0.1').on('error', () => undefined);
      open.add(tcp);
      const sockets = [tcp, tls(fixture, 'http/1.1'), tls(fixture, 'h2'), tls(fixture, 'h2', identity)];
      return sockets.map(async (socket, i) => {
        socket.resume();
        await once(socket, i === 0 ? 'connect' : 'secureConnect');
        if (i >= 2) socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
        socket.end(bytes);
        await closed(socket);
      });
    });
    await Promise.all(ends);
  });
});

it('answers requests that have no usable authority', async () => {
  await survives({}, async (fixture) => {
    for (const head of ['POST %s HTTP/1.0\r\n', 'POST %s HTTP/1.1\r\nhost: [::bad\r\n']) {
      const socket = tls(fixture, 'http/1.1');
      socket.write(`${head.replace('%s', CHECK)}content-type: application/json\r\ncontent-length: 2\r\n\r\n{}`);
      const [answer] = (await once(socket, 'data')) as [Buffer];
      assert.match(answer.toString(), /^HTTP\/1\.1 400 /);
    }
  });
});

it('refuses messages and headers that are too large', async () => {
  await survives({ limits: { maxMessageBytes: 10_000 } }, async (fixture) => {
    const session = connectHttp2(fixture.url, { ca: fixture.ca });
    const post = async (body: string, headers: Record<string, string> = {}) => {
      const request = session.request({
        ':method': 'POST',
        ':path': CHECK,
        'content-type': 'application/json',
        ...headers,
      });
      request.on('error', () => undefined);
      request.end(body);
      const [response] = (await once(request, 'response')) as [{ ':status': number }];
      request.resume();
      return response[':status'];
    };
    assert.equal(await post(JSON.stringify({ service: 'x'.repeat(20_000) })), 429);
    assert.equal(await post('{"service":'), 400);
    session.destroy();
    const socket = tls(fixture, 'http/1.1');
    socket.write(`POST ${CHECK} HTTP/1.1\r\nhost: localhost\r\nx-big: ${'y'.repeat(20_000)}\r\n\r\n`);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.match(answer.toString(), /^HTTP\/1\.1 4\d\d /);
  });
});

it('refuses oversized and malformed messages of agents, and keeps the others of the connection', async () => {
  await survives({ limits: { maxMessageBytes: 10_000 } }, async (fixture) => {
    const identity = await enrolled(fixture);
    using client = new AgentClient(`localhost:${fixture.port}`, identity);
    const good = client.control();
    assert.equal(await echo(good), 'host-1 certificate');
    const session = connectHttp2(fixture.url, { ca: fixture.ca, key: identity.key, cert: identity.chain });
    const statusOf = async (frame: Buffer) => {
      const path = '/longline.link.v1.AgentLinkService/Control';
      const request = session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      request.resume();
      request.write(frame);
      let status: unknown;
      request.on('trailers', (trailers) => {
        status = trailers['grpc-status'];
      });
      request.on('response', (headers) => {
        status = headers['grpc-status'];
      });
      await once(request, 'end');
      request.close();
      return status;
    };
    const frame = (length: number, body: Buffer) => {
      const head = Buffer.alloc(5);
      head.writeUInt32BE(length, 1);
      return Buffer.concat([head, body]);
    };
    assert.equal(await statusOf(frame(20_000, Buffer.alloc(20_000))), '8');
    assert.equal(await statusOf(frame(3, Buffer.from([0xff, 0xff, 0xff]))), '13');
    session.destroy();
    assert.equal(await echo(good), 'host-1 certificate');
    good.end();
    await once(good, 'end');
  });
});

it('ends handshakes and request heads that trickle', async () => {
  // Long enough for a handshake that is meant to succeed on a machine under load.
  await survives({ limits: { handshakeTimeoutMs: 2000, headersTimeoutMs: 150 } }, async (fixture) => {
    const silent = connectTcp(fixture.port, '127.0.0.1').on('error', () => undefined);
    open.add(silent);
    const http1 = tls(fixture, 'http/1.1');
    await once(http1, 'secureConnect');
    http1.write('POST / HTTP/1.1\r\nhost:');
    silent.resume();
    // The head of a long ClientHello, and then a byte now and again: never idle, never done.
    silent.write(Buffer.from([0x16, 0x03, 0x01, 0x20, 0x00]));
    const trickle = setInterval(() => silent.write(Buffer.from([1])), 20);
    silent.once('close', () => clearInterval(trickle));
    http1.resume();
    await Promise.all([closed(silent), closed(http1)]);
  });
});

it('ends request bodies that trickle over HTTP/2', async () => {
  await survives({ limits: { requestTimeoutMs: 1000 } }, async (fixture) => {
    const session = connectHttp2(fixture.url, { ca: fixture.ca });
    const request = session.request({ ':method': 'POST', ':path': CHECK, 'content-type': 'application/json' });
    request.on('error', () => undefined);
    request.write('{');
    request.resume();
    await once(request, 'close');
    assert.notEqual(request.rstCode, 0);
    session.destroy();
  });
});

it('closes idle connections of operators, but not those with a silent stream', async () => {
  await survives({ limits: { idleTimeoutMs: 1000 } }, async (fixture) => {
    const watching = connectHttp2(fixture.url, { ca: fixture.ca });
    const path = '/grpc.health.v1.Health/Watch';
    const request = watching.request({ ':method': 'POST', ':path': path, 'content-type': 'application/connect+json' });
    request.end(Buffer.concat([Buffer.from([0, 0, 0, 0, 2]), Buffer.from('{}')]));
    await once(request, 'data');
    // Connected later, so the watching one has had its time when this one is closed.
    const idle = connectHttp2(fixture.url, { ca: fixture.ca });
    await once(idle, 'close');
    assert.equal(request.closed, false);
    const another = watching.request({ ':method': 'POST', ':path': CHECK, 'content-type': 'application/json' });
    another.end('{}');
    const [headers] = (await once(another, 'response')) as [{ ':status': number }];
    assert.equal(headers[':status'], 200);
    watching.destroy();
  });
});

it('resets connections beyond its limits, and takes new ones when there is room', async () => {
  await survives({ limits: { maxConnections: 2 } }, async (fixture) => {
    const two = [tls(fixture, 'h2'), tls(fixture, 'h2')];
    await Promise.all(two.map((socket) => once(socket, 'secureConnect')));
    const third = tls(fixture, 'h2');
    await closed(third);
    assert.equal(third.authorized, false);
    assert.ok(fixture.lines.some(({ message }) => message === 'connections refused'));
    two[0]!.destroy();
    while (fixture.front.connectionCount > 1) await new Promise((resolve) => setImmediate(resolve));
    await once(tls(fixture, 'h2'), 'secureConnect');
  });
});

it('resets handshakes beyond the rate', async () => {
  await using fixture = await FrontFixture.start({ limits: { handshakes: { perSecond: 0.001, burst: 1 } } });
  await once(tls(fixture, 'h2'), 'secureConnect');
  const refused = tls(fixture, 'h2');
  await closed(refused);
  assert.equal(refused.authorized, false);
});

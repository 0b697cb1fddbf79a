// Tunnels over WebSockets and the pages for browsers, through the real controller's TLS port.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { after, before, beforeEach, describe, it } from 'node:test';
import { WebSocket } from 'ws';
import { TunnelTickets } from '../../../src/controller/tunnels/tunnel-tickets.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { SESSION, TunnelFleet } from '../../fixtures/tunnel-fleet.ts';
import { SetClock, until } from '../../link/scratch.ts';

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

describe('tunnels over WebSockets', () => {
  let fleet: TunnelFleet;
  let server: Server;
  let port: number;
  const accepted: Socket[] = [];
  let serve: (socket: Socket) => void = (socket) => socket.pipe(socket);

  before(async () => {
    server = createServer({ allowHalfOpen: true }, (socket) => {
      accepted.push(socket);
      socket.on('error', () => undefined);
      serve(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
    const controller = { allowedOrigins: ['https://desks.example.net'] };
    fleet = await TunnelFleet.start({ ports: [port], controller, limits: { pingMs: 1000 } });
  });
  after(async () => {
    await fleet[Symbol.asyncDispose]();
    for (const socket of accepted) socket.destroy();
    server.close();
  });
  beforeEach(async () => {
    serve = (socket) => socket.pipe(socket);
    await until('no tunnel is left', () => fleet.session.visits.size === 0);
  });

  const path = (query: string, session = SESSION) => `${fleet.context.url}/v1/sessions/${session}/tunnel?${query}`;
  const bearer = (token = fleet.context.token) => ({ authorization: `Bearer ${token}` });

  function open(url: string, headers: Record<string, string> = {}, autoPong = true): WebSocket {
    const socket = new WebSocket(url.replace(/^http/, 'ws'), ['binary'], { ca: fleet.context.ca, headers, autoPong });
    socket.on('error', () => undefined);
    return socket;
  }

  /** The HTTP answer to an upgrade that is refused. */
  async function refusal(url: string, headers: Record<string, string> = {}): Promise<Answer> {
    return await ask(url, {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': Buffer.alloc(16).toString('base64'),
      ...headers,
    });
  }

  async function ask(url: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
    const sent = request(url, { ca: fleet.context.ca, headers, method, agent: false });
    sent.end();
    const [response] = await once(sent, 'response');
    let body = '';
    for await (const part of response) body += part;
    return { status: response.statusCode, headers: response.headers, body };
  }

  async function ticket(): Promise<string> {
    return (await fleet.sessions.createTunnelTicket({ sessionId: SESSION, port })).ticket;
  }

  it('carries bytes for a bearer of a token, and closes when the session does', async () => {
    const socket = open(path(`port=${port}`), bearer());
    await once(socket, 'open');
    assert.equal(socket.protocol, 'binary');
    socket.send(Buffer.from('hello'));
    const [data, binary] = await once(socket, 'message');
    assert.deepEqual([String(data), binary], ['hello', true]);
    accepted.at(-1)!.end();
    const [code] = await once(socket, 'close');
    assert.equal(code, 1000);
  });

  it('takes a ticket once, for its session and port only, and only in time', async () => {
    const good = await ticket();
    const socket = open(path(`port=${port}&ticket=${good}`), { origin: fleet.context.url });
    await once(socket, 'open');
    socket.send('x'.repeat(10), { binary: true });
    await once(socket, 'message');
    socket.close();
    for (const [query, why] of [
      [`port=${port}&ticket=${good}`, /used before/],
      [`port=${port + 1}&ticket=${await ticket()}`, /another session or port/],
      [`port=${port}&ticket=wrong`, /unknown/],
    ] as const) {
      const answer = await refusal(path(query), { origin: fleet.context.url });
      assert.equal(answer.status, 401);
      assert.match(answer.body, why);
    }
  });

  it('refuses strangers, tokens in the address, other origins and other paths', async () => {
    const query = `port=${port}`;
    const { token } = await fleet.tokens.createApiToken({ name: 'looker', role: 1 });
    for (const [url, headers, status, why] of [
      [path(query), {}, 401, /no credentials/],
      [path(query), bearer(`lla1.${'A'.repeat(43)}`), 401, /unknown/],
      [path(query), bearer(token), 403, /needs role operator/],
      [path(`${query}&token=${fleet.context.token}`), {}, 400, /no token is taken from a URL/],
      [path(query), { ...bearer(), origin: 'https://evil.example' }, 403, /neither this controller's own/],
      [path(query), { ...bearer(), origin: 'null' }, 403, /neither this controller's own/],
      [path('port=0'), bearer(), 400, /must be 1 to 65535/],
      [path('port=22x'), bearer(), 400, /must be 1 to 65535/],
      [`${fleet.context.url}/v1/other`, bearer(), 404, /are served at/],
      [`${fleet.context.url}//`, bearer(), 400, /address of the request is malformed/],
    ] as [string, Record<string, string>, number, RegExp][]) {
      const answer = await refusal(url, headers);
      assert.equal(answer.status, status, String(why));
      assert.match(answer.body, why);
    }
    const allowed = open(path(query), { ...bearer(), origin: 'https://desks.example.net' });
    await once(allowed, 'open');
    allowed.close();
  });

  it('closes with the reason where the session can not be reached', async () => {
    for (const [url, why] of [
      [path(`port=${port}`, '%ZZ'), /is no session id/],
      [path('port=9'), /does not offer port 9/],
      [path(`port=${port}`, 'nobody'), /there is no session nobody/],
    ] as const) {
      const [code, reason] = await once(open(url, bearer()), 'close');
      assert.equal(code, 4000);
      assert.match(String(reason), why);
    }
  });

  it('takes binary messages only', async () => {
    const socket = open(path(`port=${port}`), bearer());
    await once(socket, 'open');
    socket.send('text');
    const [code] = await once(socket, 'close');
    assert.equal(code, 1003);
  });

  it('holds little for a peer that reads no more, and for a session that takes no more', async () => {
    let sent = 0;
    serve = (socket) => {
      const more = () => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536))) sent += 65_536;
        sent += 65_536;
      };
      socket.on('drain', more);
      socket.pause();
      more();
    };
    const socket = open(path(`port=${port}`), bearer());
    await once(socket, 'open');
    socket.pause();
    for (let piece = 0; piece < 400; piece++) socket.send(Buffer.alloc(65_536));
    let before = -1;
    for (let still = 0; still < 50; ) {
      still = before === sent + socket.bufferedAmount ? still + 1 : 0;
      before = sent + socket.bufferedAmount;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    // Both stand still with most of it held back at its source: what lies between are windows and socket buffers.
    assert.ok(socket.bufferedAmount > 0 || fleet.session.touched.in < 400 * 65_536);
    socket.terminate();
    await until('the tunnel is over', () => fleet.session.visits.size === 0);
  });

  it('ends a socket whose peer answers no ping', async () => {
    const socket = open(path(`port=${port}`), bearer(), false);
    await once(socket, 'open');
    const [code] = await once(socket, 'close');
    assert.equal(code, 1006);
  });

  it('ends a socket whose token was revoked', async () => {
    const { token, apiToken } = await fleet.tokens.createApiToken({ name: 'short', role: 2 });
    const socket = open(path(`port=${port}`), bearer(token));
    await once(socket, 'open');
    await fleet.tokens.revokeApiToken({ id: apiToken!.id });
    const [code, reason] = await once(socket, 'close');
    assert.equal(code, 4000);
    assert.match(String(reason), /"short" was revoked/);
  });

  it('serves the page with a strict policy, noVNC as it is, and nothing else of the disk', async () => {
    const page = await ask(`${fleet.context.url}/sessions/${SESSION}/view`);
    assert.equal(page.status, 200);
    const policy = String(page.headers['content-security-policy']);
    assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self'/);
    assert.doesNotMatch(policy, /unsafe|\*/);
    assert.doesNotMatch(page.body, /<script(?![^>]*\bsrc=)|\son\w+=|style=/);
    for (const file of ['view.js', 'view.css', 'novnc/core/rfb.js', 'novnc/vendor/pako/lib/zlib/inflate.js']) {
      assert.equal((await ask(`${fleet.context.url}/console/${file}`)).status, 200, file);
    }
    for (const file of ['novnc/package.json', 'novnc/core/../package.json', 'novnc/core/%2e%2e/package.json', 'x.js']) {
      assert.equal((await ask(`${fleet.context.url}/console/${file}`)).status, 404, file);
    }
    assert.equal((await ask(`${fleet.context.url}/sessions/${SESSION}/view`, {}, 'POST')).status, 405);
  });

  it('says where to look, without a token in it', async () => {
    const { viewPath, port: given, expireTime } = await fleet.sessions.createTunnelTicket({ sessionId: SESSION, port });
    assert.match(viewPath, /^\/sessions\/desk\/view#port=\d+&ticket=[\w-]{43}$/);
    assert.equal(given, port);
    assert.ok(Number(expireTime!.seconds) * 1000 > Date.now());
    await assert.rejects(fleet.sessions.createTunnelTicket({ sessionId: SESSION }), /has no screen; name a port/);
    await assert.rejects(fleet.sessions.createTunnelTicket({ sessionId: SESSION, port: 9 }), /does not offer port 9/);
  });
});

describe('tickets', () => {
  const caller = { tokenId: 't', name: 'alice', role: 'operator' } as const;
  const authorization = `Bearer lla1.${'A'.repeat(43)}`;

  function make(options: { maxTickets?: number; recheck?: () => Promise<typeof caller> } = {}) {
    const clock = new SetClock();
    const { maxTickets = 10, recheck = async () => caller } = options;
    const tickets = new TunnelTickets({ recheck } as never, clock, { ticketMs: 1000, maxTickets });
    return { clock, tickets };
  }

  it('end by themselves, and make room', async () => {
    const { clock, tickets } = make({ maxTickets: 1 });
    const { ticket, expiresAtMs } = tickets.issue('desk', 1, caller, authorization);
    assert.equal(expiresAtMs, clock.nowMs + 1000);
    assert.throws(() => tickets.issue('desk', 1, caller, authorization), /1 tickets wait/);
    clock.nowMs += 1000;
    await assert.rejects(tickets.redeem(ticket, 'desk', 1), /too old/);
    tickets.issue('desk', 1, caller, authorization);
    clock.nowMs += 1000;
    tickets.issue('desk', 1, caller, authorization);
  });

  it('are void once their token is', async () => {
    const gone = new LonglineError('identity', 'API token "x" was revoked');
    const { tickets } = make({ recheck: () => Promise.reject(gone) });
    const { ticket } = tickets.issue('desk', 1, caller, authorization);
    await assert.rejects(tickets.redeem(ticket, 'desk', 1), /was revoked/);
  });
});

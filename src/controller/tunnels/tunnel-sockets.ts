// The WebSocket way into sessions: GET /v1/sessions/{id}/tunnel?port=PORT, HTTP/1.1 upgrade, binary messages, subprotocol
// "binary" if one is asked for. Who comes is told by an Authorization header, or by a ticket from CreateTunnelTicket; an API
// token in the URL is refused, since URLs are written into logs. A browser names the page that it acts for as Origin: it
// must be this controller's own, or one that is configured. Refusals before the upgrade are plain HTTP answers; afterwards
// the socket is closed with code 4000 and the reason.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { create } from '@bufbuild/protobuf';
import { type WebSocket, WebSocketServer } from 'ws';
import { TunnelTargetSchema } from '#gen/longline/v1/tunnel_pb.js';
import { describeError, LonglineError, type Reason, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { connectionOf } from '../front/connection.ts';
import type { ApiTokens } from '../identity/api-tokens.ts';
import { requireRole } from '../identity/authorization.ts';
import { apiSecretOf, hashSecret } from '../identity/secrets.ts';
import type { TunnelBroker } from './tunnel-broker.ts';
import type { TunnelLimits } from './tunnel-limits.ts';
import type { Bearer, TunnelTickets } from './tunnel-tickets.ts';
import { CLOSE, WebSocketStream } from './web-socket-stream.ts';

const PATH = /^\/v1\/sessions\/([^/]+)\/tunnel$/;
/** Far above what a VNC client sends at once. */
const MAX_MESSAGE_BYTES = 1024 * 1024;

const HTTP_STATUS: Partial<Readonly<Record<Reason, readonly [number, string]>>> = {
  invalid: [400, 'Bad Request'],
  identity: [401, 'Unauthorized'],
  policy: [403, 'Forbidden'],
  not_found: [404, 'Not Found'],
  limit: [429, 'Too Many Requests'],
};

/** What the endpoint is made from. */
export interface TunnelSocketsParts {
  readonly broker: TunnelBroker;
  readonly tokens: ApiTokens;
  readonly tickets: TunnelTickets;
  /** Further origins whose pages may connect: "https://desks.example.net". */
  readonly allowedOrigins: () => readonly string[];
  readonly limits: Pick<TunnelLimits, 'pingMs'>;
  readonly log: Logger;
}

interface Asked {
  readonly sessionId: string;
  readonly port: number;
  readonly ticket: string | undefined;
}

/** All WebSockets of a controller. Dispose closes them. */
export class TunnelSockets implements Disposable {
  readonly #parts: TunnelSocketsParts;
  readonly #server = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE_BYTES,
    perMessageDeflate: false,
    clientTracking: false,
    handleProtocols: (offered) => (offered.has('binary') ? 'binary' : false),
  });
  readonly #open = new Set<WebSocketStream>();
  #closed = false;

  constructor(parts: TunnelSocketsParts) {
    this.#parts = parts;
  }

  /** Takes over the socket of an upgrade request. Never throws. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', (error) => this.#parts.log.debug('connection failed', { err: describeError(error) }));
    this.#upgrade(request, socket, head).catch((error: unknown) => {
      const refusal = toLonglineError(error);
      if (refusal.reason === 'identity') connectionOf(request.socket)?.failureLimit.failed();
      this.#parts.log.info('WebSocket refused', { path: request.url?.split('?', 1)[0], why: describeError(refusal) });
      refuse(socket, refusal);
    });
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const stream of this.#open) stream.close(CLOSE.goingAway, 'the controller is stopping; connect again');
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    if (this.#closed) throw new LonglineError('unavailable', 'the controller is stopping');
    const connection = connectionOf(request.socket);
    if (connection?.refusal !== undefined) throw connection.refusal;
    const asked = askedFor(request);
    this.#checkOrigin(request);
    const waitMs = connection?.failureLimit.waitMs() ?? 0;
    if (waitMs > 0) throw new LonglineError('limit', 'too many failed authentications on this connection');
    const bearer = await this.#bearer(request, asked);
    requireRole(bearer.caller, 'operator', 'a tunnel');
    if (socket.destroyed) return;
    this.#server.handleUpgrade(request, socket, head, (webSocket) => {
      this.#serve(webSocket, asked, bearer).catch((error: unknown) => {
        this.#parts.log.error('a WebSocket failed', { err: describeError(error) });
        webSocket.terminate();
      });
    });
  }

  async #bearer({ headers }: IncomingMessage, { sessionId, port, ticket }: Asked): Promise<Bearer> {
    const { tokens, tickets } = this.#parts;
    if (ticket !== undefined) return await tickets.redeem(ticket, sessionId, port);
    const hash = hashSecret(apiSecretOf(headers.authorization ?? null));
    return { caller: await tokens.recheck(hash), recheck: async () => void (await tokens.recheck(hash)) };
  }

  /** Whoever is no browser sends no origin, and has to show what a page of somebody else's can't know either way. */
  #checkOrigin({ headers }: IncomingMessage): void {
    const { origin, host } = headers;
    if (origin === undefined) return;
    const { allowedOrigins } = this.#parts;
    if (origin === `https://${host}` || allowedOrigins().includes(origin)) return;
    const message = `origin ${JSON.stringify(origin.slice(0, 200))} is neither this controller's own nor one that is allowed`;
    throw new LonglineError('policy', message, { rule: 'allowed_origins' });
  }

  async #serve(webSocket: WebSocket, { sessionId, port }: Asked, bearer: Bearer): Promise<void> {
    const stream = new WebSocketStream(webSocket);
    const left = new AbortController();
    webSocket.once('close', () => left.abort());
    this.#open.add(stream);
    const stopWatching = this.#watch(webSocket, stream, bearer);
    try {
      const target = create(TunnelTargetSchema, { target: { case: 'port', value: port } });
      const ask = {
        sessionId,
        target,
        noWake: false,
        signed: undefined,
        caller: bearer.caller,
        via: 'websocket' as const,
      };
      await this.#parts.broker.carry(ask, left.signal, () => stream);
    } catch (error) {
      stream.close(CLOSE.refused, toLonglineError(error).message);
    } finally {
      stopWatching();
      this.#open.delete(stream);
    }
  }

  /** Ends a socket whose peer no longer answers, or whose token no longer holds. */
  #watch(webSocket: WebSocket, stream: WebSocketStream, bearer: Bearer): () => void {
    let unanswered = 0;
    webSocket.on('pong', () => {
      unanswered = 0;
    });
    const timer = setInterval(() => {
      bearer.recheck().catch((error: unknown) => stream.close(CLOSE.refused, toLonglineError(error).message));
      if (stream.paused) return;
      unanswered += 1;
      if (unanswered > 2) webSocket.terminate();
      else webSocket.ping();
    }, this.#parts.limits.pingMs);
    return () => clearInterval(timer);
  }
}

function askedFor({ url, method }: IncomingMessage): Asked {
  const address = URL.parse(url ?? '', 'https://controller');
  if (address === null) throw new LonglineError('invalid', 'the address of the request is malformed');
  const { pathname, searchParams } = address;
  const id = PATH.exec(pathname)?.[1];
  if (id === undefined || method !== 'GET') {
    throw new LonglineError('not_found', 'WebSockets are served at /v1/sessions/{id}/tunnel only');
  }
  for (const name of ['token', 'access_token', 'authorization']) {
    if (!searchParams.has(name)) continue;
    const message = `${name}: no token is taken from a URL; send it as Authorization header, or use a ticket`;
    throw new LonglineError('invalid', message);
  }
  const port = Number(searchParams.get('port'));
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    const given = JSON.stringify(searchParams.get('port')?.slice(0, 20) ?? null);
    throw new LonglineError('invalid', `port: is ${given}; must be 1 to 65535`);
  }
  return { sessionId: id, port, ticket: searchParams.get('ticket') ?? undefined };
}

function refuse(socket: Duplex, { reason, message }: LonglineError): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const [status, text] = HTTP_STATUS[reason] ?? [503, 'Service Unavailable'];
  const body = `${JSON.stringify({ code: reason, message })}\n`;
  socket.end(
    `HTTP/1.1 ${status} ${text}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
      `connection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}

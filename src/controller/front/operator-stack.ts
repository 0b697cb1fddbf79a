// The operators' stack: Connect, gRPC and gRPC-Web over HTTP/2 or HTTP/1.1, fed with sockets that were accepted elsewhere.
// No error of a session or socket may reach the process: an idle GOAWAY once did (connect-es#1768).
import type { X509Certificate } from 'node:crypto';
import { createServer as createHttp1Server, type Server as Http1Server } from 'node:http';
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../core/clock.ts';
import { describeError, type LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { Admission } from './admission.ts';
import { type ConnectionFacts, connectionOf, rememberConnection } from './connection.ts';
import type { RequestHandler, UpgradeHandler } from './http-handlers.ts';
import type { FrontLimits } from './limits.ts';

/** A refused connection is closed after this. */
const REFUSED_LINGER_MS = 5_000;

/** What the stack is made from. */
export interface OperatorStackOptions {
  readonly handler: RequestHandler;
  /** Undefined to refuse all upgrades. */
  readonly upgrades: UpgradeHandler | undefined;
  readonly limits: FrontLimits;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Serves operators, services and browsers. */
export class OperatorStack implements AsyncDisposable {
  readonly #options: OperatorStackOptions;
  readonly #http1: Http1Server;
  readonly #http2: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #sockets = new Set<Socket>();

  constructor(options: OperatorStackOptions) {
    this.#options = options;
    this.#http1 = http1Server(options);
    this.#http2 = http2Server(options);
    this.#http2.on('session', (session) => this.#track(session));
  }

  /** Takes over a socket. With a `refusal`, every request over it is answered with that, and it is closed soon. */
  inject(socket: TLSSocket, refusal?: LonglineError): void {
    const server = socket.alpnProtocol === 'h2' ? this.#http2 : this.#http1;
    this.#take(socket, { refusal, agents: undefined }, server);
    if (refusal === undefined) return;
    const timer = setTimeout(() => socket.destroy(), REFUSED_LINGER_MS);
    socket.once('close', () => clearTimeout(timer));
  }

  /** Takes over an HTTP/1.1 connection over which only agents are heard: the one with this certificate, or any by API key. */
  injectAgents(socket: Socket, agents: X509Certificate | 'by_api_key'): void {
    this.#take(socket, { refusal: undefined, agents }, this.#http1);
  }

  #take(socket: Socket, facts: Omit<ConnectionFacts, 'failureLimit'>, server: Http1Server | Http2Server): void {
    const { limits, clock } = this.#options;
    const failures = new Admission(limits.failedAuthentications, clock);
    const failureLimit = { waitMs: () => failures.waitMs(), failed: () => void failures.tryEnter() };
    rememberConnection(socket, { ...facts, failureLimit });
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    server.emit('connection', socket);
  }

  /** Takes no new requests, lets those under way end within the limit, then closes what is left. May be called twice. */
  async drain(limitMs: number): Promise<void> {
    this.#http1.closeIdleConnections();
    for (const session of this.#sessions) session.close();
    const deadline = this.#options.clock.monotonic() + limitMs;
    while (this.#sockets.size > 0 && this.#options.clock.monotonic() < deadline) {
      await this.#options.clock.sleep(20);
      this.#http1.closeIdleConnections();
    }
    await this[Symbol.asyncDispose]();
  }

  /** Closes everything at once. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    for (const socket of this.#sockets) socket.destroy();
    // `close` also ends the timer that watches over request heads.
    this.#http1.close();
    this.#http2.close();
  }

  #track(session: ServerHttp2Session): void {
    const { limits, log } = this.#options;
    this.#sessions.add(session);
    let streams = 0;
    session.on('stream', (stream) => {
      streams += 1;
      stream.once('close', () => {
        streams -= 1;
      });
    });
    session.on('error', (error) => log.debug('HTTP/2 session failed', { err: describeError(error) }));
    session.once('close', () => this.#sessions.delete(session));
    // Streams may rightly be silent for long; a connection without one may not.
    session.setTimeout(limits.idleTimeoutMs, () => {
      if (streams === 0) session.close();
    });
  }
}

function http1Server({ handler, upgrades, limits, log }: OperatorStackOptions): Http1Server {
  const server = createHttp1Server(
    {
      maxHeaderSize: limits.maxHeaderBytes,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: Math.max(limits.requestTimeoutMs, limits.headersTimeoutMs),
      keepAliveTimeout: limits.idleTimeoutMs,
      connectionsCheckingInterval: Math.min(5_000, limits.headersTimeoutMs),
    },
    handler,
  );
  // Without a listener Node answers such requests as if they asked for no upgrade.
  if (upgrades !== undefined) {
    server.on('upgrade', (request, socket, head) => {
      // What agents may have over HTTP/1.1 asks for no upgrade.
      if (connectionOf(request.socket)?.agents === undefined) upgrades.upgrade(request, socket, head);
      else socket.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    });
  }
  server.on('clientError', (error, socket) => {
    log.debug('HTTP/1.1 request failed', { err: describeError(error) });
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    else socket.destroy();
  });
  // It never listens, and the timer that ends slow requests starts with this event.
  server.emit('listening');
  return server;
}

function http2Server({ handler, limits, log }: OperatorStackOptions): Http2Server {
  const server = createHttp2Server(
    {
      settings: {
        maxConcurrentStreams: limits.maxOperatorStreams,
        maxHeaderListSize: limits.maxHeaderBytes,
        enablePush: false,
      },
      // In megabytes: streams times window, with room for what is written.
      maxSessionMemory: 64,
    },
    handler,
  );
  server.on('sessionError', (error) => log.debug('HTTP/2 session failed', { err: describeError(error) }));
  return server;
}

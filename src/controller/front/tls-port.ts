// The TLS port: accepts, admits, shakes hands, and gives each secured socket to `onSecure`. Knows nothing of what is
// spoken over it. A connection over a bound is reset without a handshake; a failed handshake ends with the alert that
// OpenSSL chose. Errors of single connections are logged at debug and never reach the process.
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { Admission } from './admission.ts';
import type { FrontLimits } from './limits.ts';

/** Lifetime of a TLS session: an agent that was away longer does a full handshake. */
const SESSION_LIFETIME_SECONDS = 24 * 3600;
const WARN_INTERVAL_MS = 10_000;

/** What the port is made from. */
export interface TlsPortOptions {
  /** Server key and chain, PEM. */
  readonly credentials: string;
  /** CA that client certificates are verified with, PEM. */
  readonly clientAuthority: string;
  /** 48 bytes. */
  readonly ticketKeys: Buffer;
  /** Sessions are resumed only with a port of the same name; at most 32 bytes. */
  readonly sessionContext: string;
  readonly limits: FrontLimits;
  readonly clock: Clock;
  readonly log: Logger;
  /** Takes over a socket; `authorized` tells whether a client certificate verified. Must not throw. */
  readonly onSecure: (socket: TLSSocket) => void;
}

/** One listening TLS port. Dispose closes it and every connection made over it. */
export class TlsPort implements AsyncDisposable {
  readonly #options: TlsPortOptions;
  readonly #listener: Server;
  readonly #tls: TlsServer;
  readonly #admission: Admission;
  readonly #connections = new Set<Socket>();
  #credentials: string;
  #ticketKeys: Buffer;
  #refused = 0;
  #warnedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: TlsPortOptions) {
    this.#options = options;
    this.#credentials = options.credentials;
    this.#ticketKeys = options.ticketKeys;
    this.#admission = new Admission(options.limits.handshakes, options.clock);
    this.#listener = createServer({ noDelay: true, keepAlive: true }, (socket) => this.#accept(socket));
    // Not listening itself: sockets are handed to it, so that admission comes before any cryptography.
    // Bytes that trickle don't prolong the handshake's time; when it is over, `tlsClientError` follows.
    this.#tls = createTlsServer({ ...this.#context(), handshakeTimeout: options.limits.handshakeTimeoutMs });
    this.#tls.on('secureConnection', (socket) => this.#secured(socket));
    this.#tls.on('tlsClientError', (error, socket) => {
      options.log.debug('TLS handshake failed', { peer: peerOf(socket), err: describeError(error) });
      socket.destroy();
    });
  }

  /** Connections that are open now. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Starts accepting; gives the address. Throws `unavailable` if it can't be bound. */
  async listen(host: string, port: number): Promise<AddressInfo> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#listener.once('error', reject);
    this.#listener.listen({ host, port, backlog: 4096 }, resolve);
    await promise.catch((error: Error) => {
      throw new LonglineError('unavailable', `listen: can't bind ${host}:${port}: ${error.message}`, { cause: error });
    });
    this.#listener.removeListener('error', reject);
    this.#listener.on('error', (error) => this.#options.log.error('accept failed', { err: error.message }));
    return this.#listener.address() as AddressInfo;
  }

  /** Uses other server credentials or ticket keys for new handshakes; those under way are not disturbed. */
  renew(change: { readonly credentials?: string; readonly ticketKeys?: Buffer }): void {
    this.#credentials = change.credentials ?? this.#credentials;
    this.#ticketKeys = change.ticketKeys ?? this.#ticketKeys;
    this.#tls.setSecureContext(this.#context());
  }

  /** Accepts no more connections; those that exist go on. */
  stopAccepting(): void {
    if (this.#listener.listening) this.#listener.close();
  }

  /** Closes everything. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stopAccepting();
    const closed = [...this.#connections].map(async (socket) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      socket.once('close', () => resolve());
      socket.destroy();
      await promise;
    });
    await Promise.all(closed);
  }

  #context() {
    return {
      key: this.#credentials,
      cert: this.#credentials.slice(this.#credentials.indexOf('-----BEGIN CERTIFICATE-----')),
      ca: this.#options.clientAuthority,
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['h2', 'http/1.1'],
      requestCert: true,
      // What an unverified certificate means is decided after the handshake, so that the peer can be told.
      rejectUnauthorized: false,
      ticketKeys: this.#ticketKeys,
      // The default is made from the command line: sessions would not survive a restart with other flags.
      sessionIdContext: this.#options.sessionContext,
      sessionTimeout: SESSION_LIFETIME_SECONDS,
    } as const;
  }

  #accept(socket: Socket): void {
    const { limits, log } = this.#options;
    const full = this.#connections.size >= limits.maxConnections;
    if (full || this.#admission.tryEnter() > 0) {
      socket.resetAndDestroy();
      this.#warnRefused(full ? 'connection limit reached' : 'handshake rate reached');
      return;
    }
    this.#connections.add(socket);
    const peer = peerOf(socket);
    socket.on('error', (error) => log.debug('connection failed', { peer, err: error.message }));
    socket.once('close', () => this.#connections.delete(socket));
    this.#tls.emit('connection', socket);
  }

  #secured(socket: TLSSocket): void {
    const peer = peerOf(socket);
    socket.on('error', (error) => this.#options.log.debug('connection failed', { peer, err: error.message }));
    this.#options.onSecure(socket);
  }

  #warnRefused(why: string): void {
    this.#refused += 1;
    const nowMs = this.#options.clock.monotonic();
    if (nowMs - this.#warnedAtMs < WARN_INTERVAL_MS) return;
    this.#options.log.warn('connections refused', { why, count: this.#refused });
    this.#refused = 0;
    this.#warnedAtMs = nowMs;
  }
}

/** "address:port" of the other side. */
export function peerOf(socket: Pick<Socket, 'remoteAddress' | 'remotePort'>): string {
  return `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? '?'}`;
}

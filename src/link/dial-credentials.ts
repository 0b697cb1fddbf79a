// TLS for one connection, as grpc-js takes it: own socket handling, so that a connection attempt that hangs can be torn
// down at any stage (grpc-js itself waits for a silent peer without end) and TLS sessions are resumed over reconnects.
import { createHash } from 'node:crypto';
import { isIP, type Socket } from 'node:net';
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { CallCredentials, ChannelCredentials } from '@grpc/grpc-js';
import { LonglineError } from '../core/errors.ts';
import type { LinkTarget } from './ports.ts';

/** Where to dial: a link's target, or the controller of a host that has no identity yet. */
export interface DialTarget {
  readonly url: string;
  readonly credentials:
    | LinkTarget['credentials']
    | { readonly kind: 'anonymous'; readonly trustedCertificates: string };
}

type SecureConnector = ReturnType<ChannelCredentials['_createSecureConnector']>;

/** The last TLS session per peer and identity, so that a reconnect costs no full handshake. In memory only. */
export class TlsSessionCache {
  readonly #sessions = new Map<string, Buffer>();
  #resumed = 0;

  /** Connections that resumed a session. */
  get resumed(): number {
    return this.#resumed;
  }

  get(key: string): Buffer | undefined {
    return this.#sessions.get(key);
  }

  /** Keeps the newest; a renewed identity makes another key, so few are kept. */
  put(key: string, session: Buffer): void {
    this.#sessions.delete(key);
    this.#sessions.set(key, session);
    if (this.#sessions.size > 4) this.#sessions.delete(this.#sessions.keys().next().value as string);
  }

  drop(key: string): void {
    this.#sessions.delete(key);
  }

  countResumed(): void {
    this.#resumed += 1;
  }
}

/** Credentials of one connection. `destroySockets` tears down whatever was opened with them. */
export class DialCredentials extends ChannelCredentials {
  readonly #url: URL;
  readonly #context: SecureContext | undefined;
  readonly #cache: TlsSessionCache;
  readonly #cacheKey: string;
  readonly #sockets = new Set<Socket>();
  #destroyed = false;

  /** Throws `invalid` for a URL or PEM that can't be used. */
  constructor(target: DialTarget, cache: TlsSessionCache) {
    super();
    this.#url = targetUrl(target);
    this.#cache = cache;
    this.#context = this.#url.protocol === 'https:' ? secureContext(target) : undefined;
    const identity = target.credentials.kind === 'certificate' ? target.credentials.certificateChain : '';
    this.#cacheKey = `${this.#url.host} ${createHash('sha256').update(identity).digest('hex')}`;
  }

  /** Host and port to dial. */
  get authority(): string {
    return `${this.#url.hostname}:${this.#url.port || (this.#context === undefined ? '80' : '443')}`;
  }

  destroySockets(): void {
    this.#destroyed = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  override _isSecure(): boolean {
    return this.#context !== undefined;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(): SecureConnector {
    const callCredentials = CallCredentials.createEmpty();
    return {
      connect: (socket) => this.#connect(socket),
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => callCredentials,
      destroy: () => undefined,
    };
  }

  async #connect(tcp: Socket): Promise<{ socket: Socket; secure: boolean }> {
    this.#own(tcp);
    if (this.#destroyed) throw new LonglineError('cancelled', 'the connection attempt was given up');
    if (this.#context === undefined) return { socket: tcp, secure: false };
    const session = this.#cache.get(this.#cacheKey);
    const host = this.#url.hostname.replace(/^\[|\]$/g, '');
    const socket = connect({
      socket: tcp,
      host,
      ...(isIP(host) === 0 && { servername: host }),
      secureContext: this.#context,
      ALPNProtocols: ['h2'],
      ...(session !== undefined && { session }),
    });
    this.#own(socket);
    socket.on('session', (ticket: Buffer) => this.#cache.put(this.#cacheKey, ticket));
    await this.#secured(socket);
    if (socket.isSessionReused()) this.#cache.countResumed();
    return { socket, secure: true };
  }

  #secured(socket: TLSSocket): Promise<void> {
    return new Promise((resolve, reject) => {
      let secured = false;
      const fail = (cause: Error | undefined) => {
        if (secured) return;
        // A ticket that the peer stumbled over must not be offered again.
        this.#cache.drop(this.#cacheKey);
        const message = `TLS with ${this.authority} failed: ${cause?.message ?? 'closed'}${tlsMend(cause)}`;
        reject(new LonglineError('unavailable', message, { cause }));
      };
      socket.once('error', fail);
      socket.once('close', () => fail(undefined));
      socket.once('secureConnect', () => {
        secured = socket.alpnProtocol === 'h2';
        if (secured) resolve();
        else socket.destroy(new Error('the peer does not speak HTTP/2 (ALPN h2)'));
      });
    });
  }

  #own(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }
}

/** What mends a certificate that can't be trusted; empty for other failures. */
function tlsMend(cause: Error | undefined): string {
  switch ((cause as NodeJS.ErrnoException | undefined)?.code) {
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'CERT_SIGNATURE_FAILURE':
      return "; its CA is not the one that was trusted at enrolment: it is another controller, or lost its CA; restore the controller's CA, or enrol again with a new token";
    case 'CERT_NOT_YET_VALID':
    case 'CERT_HAS_EXPIRED':
      return `; this host's clock says ${new Date().toISOString()}: check the clocks of both hosts`;
    default:
      return '';
  }
}

function targetUrl(target: DialTarget): URL {
  const url = URL.canParse(target.url) ? new URL(target.url) : undefined;
  const kinds = target.credentials.kind === 'api_key' ? ['https:', 'http:'] : ['https:'];
  if (url === undefined || !kinds.includes(url.protocol)) {
    const right = kinds.length === 1 ? 'https://host:port' : 'https://host:port or http://host:port';
    throw new LonglineError('invalid', `controller URL "${target.url}" can't be dialled; give ${right}`);
  }
  return url;
}

function secureContext(target: DialTarget): SecureContext {
  const { credentials } = target;
  try {
    return createSecureContext({
      minVersion: 'TLSv1.2',
      ...(credentials.trustedCertificates !== undefined && { ca: credentials.trustedCertificates }),
      ...(credentials.kind === 'certificate' && { cert: credentials.certificateChain, key: credentials.privateKey }),
    });
  } catch (cause) {
    throw new LonglineError('identity', 'the certificate, its key or the trusted certificates cannot be used', {
      cause,
    });
  }
}

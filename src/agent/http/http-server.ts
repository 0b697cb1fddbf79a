// An HTTP server for probes, scrapers and people on the host: a table of routes that only read. What is not open to anybody is told
// on loopback, or to whoever shows the token. It knows nothing of what the routes tell, tells no causes of failures, and takes no more
// at once than probes need; no request outlasts its limit.
import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Secret } from '../../core/config/secret.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { freeSocketPath } from '../local/socket-path.ts';

const LIMIT_MS = 10_000;
/** For a route to say what it tells. */
const ANSWER_LIMIT_MS = 5_000;
/** How often limits of requests are looked at. */
const LOOK_EVERY_MS = 1_000;
const MAX_CONNECTIONS = 64;
const MAX_HEADER_BYTES = 8 * 1024;

/** What a route gives. */
export interface HttpAnswer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/** Who reads, and what is said of a request. */
export interface HttpAsk {
  /** True for somebody on this host, and for whoever shows the token. */
  readonly trusted: boolean;
  /** The header. */
  readonly accept: string | undefined;
}

/** One thing to read, by GET or HEAD. */
export interface HttpRoute {
  /** "/healthz". */
  readonly path: string;
  /** True if whoever reaches the port may read it. */
  readonly open: boolean;
  readonly answer: (ask: HttpAsk) => Promise<HttpAnswer>;
}

/** Where a server listens: on a port, or on a unix socket (0600), of which whoever may open it is trusted. */
export type HttpPlace =
  | {
      /** Empty for all interfaces. */
      readonly bindAddress: string;
      readonly bindPort: number;
    }
  | { readonly socketPath: string };

/** What a server is made from. */
export type HttpServerOptions = HttpPlace & {
  /** If a function, asked for each request. */
  readonly routes: readonly HttpRoute[] | (() => readonly HttpRoute[]);
  /** Opens what isn't open to whoever shows it; without one that is told on loopback only. */
  readonly token?: Secret | undefined;
  readonly log: Logger;
};

/** JSON, one line. */
export function jsonAnswer(status: number, value: unknown): HttpAnswer {
  return { status, type: 'application/json', body: `${JSON.stringify(value)}\n` };
}

/** One server. Dispose to close it. */
export class HttpServer implements AsyncDisposable {
  readonly #options: HttpServerOptions;
  readonly #routes: () => readonly HttpRoute[];
  readonly #server: Server;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    const { routes } = options;
    this.#routes = typeof routes === 'function' ? routes : () => routes;
    const limits = { requestTimeout: LIMIT_MS, headersTimeout: LIMIT_MS, connectionsCheckingInterval: LOOK_EVERY_MS };
    this.#server = createServer({ ...limits, maxHeaderSize: MAX_HEADER_BYTES }, (request, response) => {
      this.#respond(request, response).catch((error: unknown) => {
        options.log.error('an HTTP request failed', { path: request.url, err: describeError(error) });
        response.destroy();
      });
    });
    // Of a peer that doesn't read its answer, too.
    this.#server.timeout = LIMIT_MS;
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Port that it listens on. */
  get port(): number {
    const address = this.#server.address();
    if (typeof address === 'object' && address !== null) return address.port;
    return 'bindPort' in this.#options ? this.#options.bindPort : 0;
  }

  /** Binds. Throws `unavailable` if it can't. */
  async open(): Promise<void> {
    const options = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onError = (error: NodeJS.ErrnoException) => {
      const message = `http: can't listen on ${placeText(options)}: ${causeText(error)}`;
      reject(new LonglineError('unavailable', message, { cause: error }));
    };
    if ('socketPath' in options) await freeSocketPath('http.socket', options.socketPath);
    this.#server.once('error', onError);
    if ('socketPath' in options) {
      // Nobody else may reach it, not even between the two steps.
      const previousMask = process.umask(0o177);
      this.#server.listen({ path: options.socketPath }, resolve);
      process.umask(previousMask);
    } else {
      const { bindAddress, bindPort } = options;
      this.#server.listen({ port: bindPort, ...(bindAddress === '' ? {} : { host: bindAddress }) }, resolve);
    }
    await promise;
    this.#server.off('error', onError);
    this.#server.on('error', (error) =>
      this.#options.log.warn('http: can not take a connection', { err: error.message }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server.listening) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeAllConnections();
    await promise;
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, type, body } = await this.#answer(request);
    const headers = { 'content-type': type, 'content-length': Buffer.byteLength(body), connection: 'close' };
    const asked = status === 401 ? { 'www-authenticate': 'Bearer' } : {};
    response.writeHead(status, {
      ...headers,
      ...asked,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    response.end(body);
  }

  async #answer(request: IncomingMessage): Promise<HttpAnswer> {
    const { method, url = '' } = request;
    if (method !== 'GET' && method !== 'HEAD') return plain(405, 'only GET is answered here');
    const [path] = url.split('?');
    const routes = this.#routes();
    const route = routes.find((one) => one.path === path);
    if (route === undefined) return plain(404, `there are ${routes.map((one) => one.path).join(', ')}`);
    // Who may open a unix socket is who the agent runs as.
    const refusal = 'socketPath' in this.#options ? undefined : refusalOf(request, this.#options.token);
    if (refusal !== undefined && !route.open) return refusal;
    try {
      return await withinLimit(route.answer({ trusted: refusal === undefined, accept: request.headers.accept }));
    } catch (error) {
      // What went wrong inside is for the log.
      this.#options.log.warn('an HTTP request could not be answered', { path: route.path, err: describeError(error) });
      return plain(503, 'not to be had now; the log of the agent says why');
    }
  }
}

/** Why a request may not read what isn't open; undefined if it may. */
function refusalOf(request: IncomingMessage, token: Secret | undefined): HttpAnswer | undefined {
  const shown = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
  if (shown !== undefined) {
    if (token !== undefined && sameText(shown, token.reveal())) return undefined;
    return plain(401, 'the token is not the one of http.token');
  }
  if (isFromHere(request)) return undefined;
  if (token !== undefined) return plain(401, 'told on loopback, or to whoever shows http.token as a bearer token');
  return plain(403, 'told on loopback only; with http.token set also to whoever shows that as a bearer token');
}

/**
 * True for somebody on this host. A proxy on this host isn't, as it speaks for others; neither is a browser that was led here by a
 * name of somebody else's.
 */
function isFromHere({ socket, headers }: IncomingMessage): boolean {
  if (!isLoopback(socket.remoteAddress ?? '')) return false;
  if (['forwarded', 'x-forwarded-for', 'x-real-ip', 'via'].some((name) => headers[name] !== undefined)) return false;
  // Every browser names one.
  if (headers.host === undefined) return true;
  const host = headers.host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return host.toLowerCase() === 'localhost' || isLoopback(host);
}

function placeText(place: HttpPlace): string {
  if ('socketPath' in place) return place.socketPath;
  const { bindAddress, bindPort } = place;
  return bindAddress === '' ? `port ${bindPort} of all interfaces` : `${bindAddress}:${bindPort}`;
}

const CAUSES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process has it',
  EADDRNOTAVAIL: 'this host has no such address',
  EACCES: 'this process may not take it; a port below 1024 needs CAP_NET_BIND_SERVICE',
};

function causeText({ code = '', message }: NodeJS.ErrnoException): string {
  const cause = CAUSES[code];
  return cause === undefined ? message : `${cause} (${code})`;
}

function isLoopback(address: string): boolean {
  return /^(::ffff:)?127\.\d+\.\d+\.\d+$/.test(address) || address === '::1';
}

function sameText(given: string, right: string): boolean {
  const [a, b] = [given, right].map((text) => createHash('sha256').update(text).digest());
  return timingSafeEqual(a!, b!);
}

async function withinLimit(answer: Promise<HttpAnswer>): Promise<HttpAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const late = () => reject(new LonglineError('late', `no answer in ${ANSWER_LIMIT_MS / 1000} s`));
  const timer = setTimeout(late, ANSWER_LIMIT_MS);
  answer.then(resolve, reject);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

function plain(status: number, text: string): HttpAnswer {
  return { status, type: 'text/plain', body: `${text}\n` };
}

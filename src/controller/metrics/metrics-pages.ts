// GET /metrics for scrapers: on the operators' port for whoever shows an API token, and on a port of its own without one, which is
// bound to this host. Scrapers that come too often cost one look at a time.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { expose, formatOf } from '../../telemetry/metrics/exposition.ts';
import type { HostPort } from '../config.ts';
import { connectionOf } from '../front/connection.ts';
import type { HttpRequest as Request, RequestHandler, HttpResponse as Response } from '../front/http-handlers.ts';
import type { ApiTokens } from '../identity/api-tokens.ts';

const PATH = '/metrics';
const LIMIT_MS = 10_000;
const LOOK_EVERY_MS = 1_000;
const MAX_CONNECTIONS = 64;

/** What pages are made from. */
export interface MetricsPagesOptions {
  readonly registry: MetricRegistry;
  /** Who may read; undefined for whoever reaches the port. */
  readonly tokens: Pick<ApiTokens, 'authenticate'> | undefined;
  readonly log: Logger;
}

/** Answers /metrics, and gives all else to `others`, or 404. */
export function metricsPages(options: MetricsPagesOptions, others: RequestHandler | undefined): RequestHandler {
  return (request, response) => {
    const path = request.url?.split('?', 1)[0];
    if (path === PATH) void answer(options, request, response);
    else if (others !== undefined) others(request, response);
    else respond(response, 404, `figures are at ${PATH}\n`);
  };
}

async function answer({ registry, tokens, log }: MetricsPagesOptions, request: Request, response: Response) {
  try {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return respond(response, 405, 'only GET is answered here\n', { allow: 'GET, HEAD' });
    }
    const refusal = tokens === undefined ? undefined : await refusalOf(request, tokens);
    if (refusal !== undefined) return respond(response, ...refusal);
    const { type, body } = expose(await registry.collect(), formatOf(request.headers.accept));
    const isHead = request.method === 'HEAD';
    respond(response, 200, isHead ? '' : body, { 'content-type': type, 'cache-control': 'no-store' });
  } catch (error) {
    log.error('figures could not be told', { err: describeError(error) });
    respond(response, 500, 'not to be had now; the log of the controller says why\n');
  }
}

/** Every role may read figures. */
async function refusalOf(
  request: Request,
  tokens: Pick<ApiTokens, 'authenticate'>,
): Promise<[number, string, Record<string, string>] | undefined> {
  const limit = connectionOf(request.socket)?.failureLimit;
  const waitMs = limit?.waitMs() ?? 0;
  if (waitMs > 0) {
    const after = { 'retry-after': String(Math.ceil(waitMs / 1000)) };
    return [429, 'too many failed authentications on this connection\n', after];
  }
  try {
    await tokens.authenticate(request.headers.authorization ?? null);
    return undefined;
  } catch (error) {
    const { reason, message } = toLonglineError(error);
    if (reason !== 'identity') throw error;
    limit?.failed();
    return [401, `${message}\n`, { 'www-authenticate': 'Bearer' }];
  }
}

function respond(response: Response, status: number, body: string, headers: Record<string, string> = {}): void {
  if (response.headersSent || response.destroyed) return;
  (response as ServerResponse).writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'x-content-type-options': 'nosniff',
    ...headers,
    'content-length': Buffer.byteLength(body),
  });
  response.end(body);
}

/** A port of its own for scrapers. Dispose to close it. */
export class MetricsListener implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  /** Binds. Throws `unavailable` if it can't. */
  static async open({ host, port }: HostPort, options: Omit<MetricsPagesOptions, 'tokens'>): Promise<MetricsListener> {
    const pages = metricsPages({ ...options, tokens: undefined }, undefined);
    const server = createServer(
      { requestTimeout: LIMIT_MS, headersTimeout: LIMIT_MS, connectionsCheckingInterval: LOOK_EVERY_MS },
      (request: IncomingMessage, response: ServerResponse) => pages(request, response),
    );
    server.timeout = LIMIT_MS;
    server.maxConnections = MAX_CONNECTIONS;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject);
    server.listen({ host, port }, resolve);
    await promise.catch((error: Error) => {
      const message = `metrics-listen: can't bind ${host}:${port}: ${error.message}; name another port, or none`;
      throw new LonglineError('unavailable', message, { cause: error });
    });
    server.off('error', reject);
    server.on('error', (error) => options.log.warn('a scraper can not be heard', { err: error.message }));
    return new MetricsListener(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server.listening) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeAllConnections();
    await promise;
  }
}

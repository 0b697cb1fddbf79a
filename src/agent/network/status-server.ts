// Health and figures of one network over HTTP, for probes and scrapers: GET /healthz (200 while it works, else 503) and GET /metrics.
// It reads only, tells no secret, and takes no more at once than probes need.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { NetworkView } from '../../capabilities/network/status.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { METRICS_TYPE, metricsText } from './metrics-text.ts';
import { networkJson } from './status-view.ts';

const LIMIT_MS = 10_000;
const MAX_CONNECTIONS = 64;
const MAX_HEADER_BYTES = 8 * 1024;

/** What a server is made from. */
export interface StatusServerOptions {
  readonly bindAddress: string;
  readonly bindPort: number;
  /** The network as it is now; undefined if it isn't there. */
  readonly look: () => Promise<NetworkView | undefined>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** One server. Dispose to close it. */
export class StatusServer implements AsyncDisposable {
  readonly #options: StatusServerOptions;
  readonly #server: Server;

  constructor(options: StatusServerOptions) {
    this.#options = options;
    const limits = { requestTimeout: LIMIT_MS, headersTimeout: LIMIT_MS, maxHeaderSize: MAX_HEADER_BYTES };
    this.#server = createServer(limits, (request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        options.log.error('a status request failed', { err: describeError(error) });
        response.destroy();
      });
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Port that it listens on. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : this.#options.bindPort;
  }

  /** Binds. Throws `unavailable` if it can't. */
  async open(): Promise<void> {
    const { bindAddress, bindPort } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', (error) => {
      const message = `http: can't listen on ${bindAddress}:${bindPort}: ${error.message}`;
      reject(new LonglineError('unavailable', message, { cause: error }));
    });
    this.#server.listen(bindPort, bindAddress, resolve);
    await promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server.listening) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeAllConnections();
    await promise;
  }

  async #answer({ method, url = '' }: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path] = url.split('?');
    if (method !== 'GET' && method !== 'HEAD') return send(response, 405, 'text/plain', 'only GET is answered here\n');
    if (path !== '/healthz' && path !== '/metrics') {
      return send(response, 404, 'text/plain', 'there are /healthz and /metrics\n');
    }
    const view = await this.#options.look();
    const nowMs = this.#options.clock.now();
    if (path === '/metrics') {
      return send(response, 200, METRICS_TYPE, view === undefined ? '' : metricsText(view, nowMs));
    }
    const works = view?.state === 'up' || view?.state === 'degraded';
    const status = view === undefined ? { state: 'down' } : networkJson(view, nowMs);
    const body = JSON.stringify({ status: works ? 'ok' : 'unavailable', ...status });
    return send(response, works ? 200 : 503, 'application/json', `${body}\n`);
  }
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body), connection: 'close' });
  response.end(body);
}

// The agent's local HTTP API, on a port, a unix socket or both. A place that can't be had is no failure of the agent: it is said, and
// tried again until it can.
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { HttpConfig } from '../http-settings.ts';
import { type HttpPlace, type HttpRoute, HttpServer } from './http-server.ts';

const TRY_AGAIN_MS = 15_000;

/** One per agent. `open` it; dispose to close. */
export class AgentHttp implements AsyncDisposable {
  readonly #config: HttpConfig;
  readonly #routes: readonly HttpRoute[];
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #servers = new Map<string, HttpServer>();
  #opening: Promise<unknown> | undefined;
  #trying: Promise<unknown> | undefined;

  constructor(config: HttpConfig, routes: readonly HttpRoute[], clock: Clock, log: Logger) {
    this.#config = config;
    this.#routes = routes;
    this.#clock = clock;
    this.#log = log;
  }

  /** Port that it listens on; undefined while it doesn't. */
  get port(): number | undefined {
    return this.#servers.get('http.port')?.port;
  }

  /** Binds, now if it can, else in the background as soon as it can. Never throws. Does nothing if there is neither port nor socket. */
  async open(): Promise<void> {
    this.#opening ??= this.#openAll();
    await this.#opening;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#opening;
    await this.#trying;
    await Promise.all([...this.#servers.values()].map((server) => server[Symbol.asyncDispose]()));
    this.#servers.clear();
  }

  async #openAll(): Promise<void> {
    const { address: bindAddress, port: bindPort, socket: socketPath } = this.#config;
    const places: [string, HttpPlace][] = [];
    if (bindPort !== 0) places.push(['http.port', { bindAddress, bindPort }]);
    if (socketPath !== undefined) places.push(['http.socket', { socketPath }]);
    const bound = await Promise.all(places.map(async ([key, place]) => await this.#bind(key, place, true)));
    const missing = places.filter((_, index) => !bound[index]);
    this.#trying = Promise.all(missing.map(([key, place]) => this.#keepTrying(key, place, this.#stop.signal)));
  }

  async #keepTrying(key: string, place: HttpPlace, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#clock.sleep(TRY_AGAIN_MS, signal).catch(() => undefined);
      if (signal.aborted || (await this.#bind(key, place, false))) return;
    }
  }

  async #bind(key: string, place: HttpPlace, first: boolean): Promise<boolean> {
    const server = new HttpServer({ ...place, routes: this.#routes, token: this.#config.token, log: this.#log });
    try {
      await server.open();
    } catch (error) {
      const facts = { err: describeError(error), retryMs: TRY_AGAIN_MS };
      if (first) this.#log.warn(`the local HTTP API is not served yet; ${key} takes another place`, facts);
      return false;
    }
    this.#servers.set(key, server);
    this.#log.info('the local HTTP API is served', { ...place, ...('bindPort' in place && { bindPort: server.port }) });
    return true;
  }
}

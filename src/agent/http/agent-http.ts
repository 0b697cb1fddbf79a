// The agent's local HTTP API. A port that can't be had is no failure of the agent: it is said, and tried again until it can.
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { HttpConfig } from '../http-settings.ts';
import { type HttpRoute, HttpServer } from './http-server.ts';

const TRY_AGAIN_MS = 15_000;

/** One per agent. `open` it; dispose to close. */
export class AgentHttp implements AsyncDisposable {
  readonly #config: HttpConfig;
  readonly #routes: readonly HttpRoute[];
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  #server: HttpServer | undefined;
  #trying: Promise<void> | undefined;

  constructor(config: HttpConfig, routes: readonly HttpRoute[], clock: Clock, log: Logger) {
    this.#config = config;
    this.#routes = routes;
    this.#clock = clock;
    this.#log = log;
  }

  /** Port that it listens on; undefined while it doesn't. */
  get port(): number | undefined {
    return this.#server?.port;
  }

  /** Binds, now if it can, else in the background as soon as it can. Never throws. Does nothing if the port is 0. */
  async open(): Promise<void> {
    if (this.#config.port === 0 || this.#trying !== undefined) return;
    if (!(await this.#bind(true))) this.#trying = this.#keepTrying(this.#stop.signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#trying;
    await this.#server?.[Symbol.asyncDispose]();
    this.#server = undefined;
  }

  async #keepTrying(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#clock.sleep(TRY_AGAIN_MS, signal).catch(() => undefined);
      if (signal.aborted || (await this.#bind(false))) return;
    }
  }

  async #bind(first: boolean): Promise<boolean> {
    const { address: bindAddress, port: bindPort, token } = this.#config;
    const server = new HttpServer({ bindAddress, bindPort, routes: this.#routes, token, log: this.#log });
    try {
      await server.open();
    } catch (error) {
      const facts = { err: describeError(error), retryMs: TRY_AGAIN_MS };
      if (first) this.#log.warn('the local HTTP API is not served yet; http.port takes another port, 0 none', facts);
      return false;
    }
    this.#server = server;
    this.#log.info('the local HTTP API is served', { address: bindAddress, port: server.port });
    return true;
  }
}

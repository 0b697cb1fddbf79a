// The agent's local HTTP API, on a port, a unix socket or both, as long as the process lives: what it tells may change under way, its
// places don't. A place that can't be had is no failure of the agent: it is said with its setting and the mend, and tried again until
// it can: at first often, as the one before may be about to end. A replica leaves the places to another one of its host that leads.
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { HttpConfig } from '../http-settings.ts';
import { type HttpPlace, type HttpRoute, HttpServer } from './http-server.ts';

const SOON_MS = 250;
const SOON_TRIES = 20;
const TRY_AGAIN_MS = 15_000;

type Key = 'http.port' | 'http.socket';

const MENDS: Readonly<Record<Key, string>> = {
  'http.port': 'end what listens there, or give this agent another http.port (0 for none) or http.address',
  'http.socket': 'end what serves it, or give this agent another http.socket',
};

/** One per process. `open` it; dispose to close. */
export class AgentHttp implements AsyncDisposable {
  readonly #config: HttpConfig;
  readonly #routes: () => readonly HttpRoute[];
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #servers = new Map<Key, HttpServer>();
  /** Aborts once the places are not wanted any more; undefined while they aren't. */
  #wanted: AbortController | undefined;
  #turn: Promise<void> = Promise.resolve();
  #trying: Promise<unknown> | undefined;
  #over = false;

  /** @param routes asked for each request. */
  constructor(config: HttpConfig, routes: () => readonly HttpRoute[], clock: Clock, log: Logger) {
    this.#config = config;
    this.#routes = routes;
    this.#clock = clock;
    this.#log = log;
  }

  /** Port that it listens on; undefined while it doesn't. */
  get port(): number | undefined {
    return this.#servers.get('http.port')?.port;
  }

  /**
   * Binds, now if it can, else in the background as soon as it can. Never throws. Does nothing if there is neither port nor socket, or
   * if it is open.
   */
  async open(): Promise<void> {
    if (this.#wanted === undefined && !this.#over) {
      const wanted = new AbortController();
      this.#wanted = wanted;
      this.#turn = this.#turn.then(() => this.#openAll(wanted.signal));
    }
    await this.#turn;
  }

  /** Lets go of its places until it is opened again. Requests under way are cut off. */
  async leave(): Promise<void> {
    const wanted = this.#wanted;
    if (wanted !== undefined) {
      this.#wanted = undefined;
      wanted.abort();
      this.#turn = this.#turn.then(() => this.#closeAll());
    }
    await this.#turn;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    await this.leave();
  }

  async #openAll(wanted: AbortSignal): Promise<void> {
    const { address: bindAddress, port: bindPort, socket: socketPath } = this.#config;
    const places: [Key, HttpPlace][] = [];
    if (bindPort !== 0) places.push(['http.port', { bindAddress, bindPort }]);
    if (socketPath !== undefined) places.push(['http.socket', { socketPath }]);
    if (wanted.aborted) return;
    const bound = await Promise.all(places.map(async ([key, place]) => await this.#bind(key, place, true)));
    const missing = places.filter((_, index) => !bound[index]);
    this.#trying = Promise.all(missing.map(([key, place]) => this.#keepTrying(key, place, wanted)));
  }

  async #closeAll(): Promise<void> {
    await this.#trying;
    await Promise.all([...this.#servers.values()].map((server) => server[Symbol.asyncDispose]()));
    this.#servers.clear();
  }

  async #keepTrying(key: Key, place: HttpPlace, wanted: AbortSignal): Promise<void> {
    for (let tries = 0; !wanted.aborted; tries += 1) {
      await this.#clock.sleep(tries < SOON_TRIES ? SOON_MS : TRY_AGAIN_MS, wanted).catch(() => undefined);
      if (wanted.aborted || (await this.#bind(key, place, false))) return;
    }
  }

  async #bind(key: Key, place: HttpPlace, first: boolean): Promise<boolean> {
    const server = new HttpServer({ ...place, routes: this.#routes, token: this.#config.token, log: this.#log });
    try {
      await server.open();
    } catch (error) {
      const facts = { setting: key, err: describeError(error), mend: MENDS[key], retryMs: TRY_AGAIN_MS };
      if (first) this.#log.warn('the local HTTP API is not served yet; its place is tried again', facts);
      return false;
    }
    this.#servers.set(key, server);
    this.#log.info('the local HTTP API is served', { ...place, ...('bindPort' in place && { bindPort: server.port }) });
    return true;
  }
}

// The agent's local HTTP API, on a port, a unix socket or both, as long as the process lives: what it tells may change under way, its
// places don't. A replica leaves a place to another one of its host that leads and wants the same.
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import type { HttpConfig } from '../http-settings.ts';
import type { HttpRoute } from './http-server.ts';
import { KeptPlace, type PlaceName } from './kept-place.ts';

const NONE: ReadonlySet<PlaceName> = new Set();

/** One per process. `open` it; dispose to close. */
export class AgentHttp implements AsyncDisposable {
  readonly #places = new Map<PlaceName, KeptPlace>();

  /** @param routes asked for each request. */
  constructor(config: HttpConfig, routes: () => readonly HttpRoute[], clock: Clock, log: Logger) {
    const { address: bindAddress, port: bindPort, socket: socketPath, token } = config;
    const shared = { routes, token, clock, log };
    if (bindPort !== 0) {
      const name = 'http.port';
      this.#places.set(name, new KeptPlace({ ...shared, name, place: { bindAddress, bindPort } }));
    }
    if (socketPath !== undefined) {
      const name = 'http.socket';
      this.#places.set(name, new KeptPlace({ ...shared, name, place: { socketPath } }));
    }
  }

  /** Port that it listens on; undefined while it doesn't. */
  get port(): number | undefined {
    return this.#places.get('http.port')?.port;
  }

  /**
   * Takes its places but for those that are left to others, now if it can, else in the background as soon as it can. Never throws. Does
   * nothing that is done already, or if there is neither port nor socket.
   */
  async open(others: ReadonlySet<PlaceName> = NONE): Promise<void> {
    await Promise.all([...this.#places].map(([name, place]) => (others.has(name) ? place.leave() : place.open())));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#places.values()].map((place) => place[Symbol.asyncDispose]()));
  }
}

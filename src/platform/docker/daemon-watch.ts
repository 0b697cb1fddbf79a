// Tells one life of the daemon from the next. A killed daemon closes a hijacked connection exactly as it does when a
// container's output ends; only a second connection, open all the time, shows whether the daemon was lost meanwhile.
import type { ClientRequest } from 'node:http';
import { LonglineError } from '../../core/errors.ts';
import type { EngineClient } from './engine-client.ts';

/** Keeps one event stream open from the first use until disposed. */
export class DaemonWatch implements Disposable {
  readonly #client: EngineClient;
  #life = 0;
  #request: ClientRequest | undefined;
  #opening: Promise<void> | undefined;
  #unsupported = false;

  constructor(client: EngineClient) {
    this.#client = client;
  }

  /** Number of the daemon's present life; watching it from now on. */
  async life(signal?: AbortSignal): Promise<number> {
    const { api } = await this.#client.version(signal);
    if (this.#request === undefined && !this.#unsupported) this.#opening = this.#open(api);
    await this.#opening;
    return this.#life;
  }

  /** Throws `unavailable` if the daemon isn't there or isn't the one that was there at `life`. */
  async confirm(life: number): Promise<void> {
    await this.#client.ping();
    if (life === this.#life) return;
    throw new LonglineError('unavailable', `the container engine at ${this.#client.where} was lost meanwhile`);
  }

  [Symbol.dispose](): void {
    this.#request?.destroy();
  }

  async #open(api: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const filters = JSON.stringify({ type: ['daemon'] });
    const request = this.#client.nodeRequest('GET', `/${api}/events?${new URLSearchParams({ filters })}`, {});
    this.#request = request;
    request.once('socket', (socket) => {
      // Only the presence of the connection counts: it must not keep the process alive.
      socket.unref();
      if (socket.connecting) socket.once('connect', () => resolve());
      else resolve();
    });
    request.once('response', (response) => {
      // An engine without events would look like one that is lost all the time.
      if (response.statusCode !== 200) this.#unsupported = true;
      response.on('error', () => undefined);
      response.resume();
    });
    request.on('error', () => resolve());
    request.once('close', () => {
      if (!this.#unsupported) this.#life += 1;
      this.#request = undefined;
      resolve();
    });
    request.end();
    const late = setTimeout(() => request.destroy(), this.#client.limitMs);
    await promise.finally(() => clearTimeout(late));
  }
}

// A place that the HTTP API is served on. One that can't be had is no failure: it is said with its setting and the mend, and tried again
// until it can; at first often, as whoever has it may be about to end.
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { type HttpPlace, HttpServer, type HttpServerOptions } from './http-server.ts';

/** The setting that names it. */
export type PlaceName = 'http.port' | 'http.socket';

const SOON_MS = 250;
const SOON_TRIES = 20;
const TRY_AGAIN_MS = 15_000;

const MENDS: Readonly<Record<PlaceName, string>> = {
  'http.port': 'end what listens there, or give this agent another http.port (0 for none) or http.address',
  'http.socket': 'end what serves it, or give this agent another http.socket',
};

/** What a place is kept with. */
export interface KeptPlaceOptions extends Pick<HttpServerOptions, 'log' | 'routes' | 'token'> {
  readonly name: PlaceName;
  readonly place: HttpPlace;
  readonly clock: Clock;
  readonly log: Logger;
}

/** One place. Dispose to let go of it for good. */
export class KeptPlace implements AsyncDisposable {
  readonly #options: KeptPlaceOptions;
  /** Aborts once the place is not wanted any more; undefined while it isn't. */
  #wanted: AbortController | undefined;
  /** Takings and leavings come one after the other. */
  #turn: Promise<void> = Promise.resolve();
  #trying: Promise<void> | undefined;
  #server: HttpServer | undefined;
  #over = false;

  constructor(options: KeptPlaceOptions) {
    this.#options = options;
  }

  /** Port that is listened on; undefined while none is. */
  get port(): number | undefined {
    return this.#server?.port;
  }

  /** Binds, now if it can, else in the background as soon as it can. Never throws. */
  async open(): Promise<void> {
    if (this.#wanted === undefined && !this.#over) {
      const wanted = new AbortController();
      this.#wanted = wanted;
      this.#turn = this.#turn.then(() => this.#take(wanted.signal));
    }
    await this.#turn;
  }

  /** Lets go of it until it is opened again. Requests under way are cut off. */
  async leave(): Promise<void> {
    const wanted = this.#wanted;
    if (wanted !== undefined) {
      this.#wanted = undefined;
      wanted.abort();
      this.#turn = this.#turn.then(() => this.#letGo());
    }
    await this.#turn;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    await this.leave();
  }

  async #take(wanted: AbortSignal): Promise<void> {
    if (wanted.aborted || (await this.#bind(true))) return;
    this.#trying = this.#keepTrying(wanted);
  }

  async #letGo(): Promise<void> {
    await this.#trying;
    await this.#server?.[Symbol.asyncDispose]();
    this.#server = undefined;
  }

  async #keepTrying(wanted: AbortSignal): Promise<void> {
    for (let tries = 0; !wanted.aborted; tries += 1) {
      await this.#options.clock.sleep(tries < SOON_TRIES ? SOON_MS : TRY_AGAIN_MS, wanted).catch(() => undefined);
      if (wanted.aborted || (await this.#bind(false))) return;
    }
  }

  async #bind(first: boolean): Promise<boolean> {
    const { name, place, routes, token, log } = this.#options;
    const server = new HttpServer({ ...place, routes, token, log });
    try {
      await server.open();
    } catch (error) {
      const facts = { setting: name, err: describeError(error), mend: MENDS[name], retryMs: TRY_AGAIN_MS };
      if (first) log.warn('the local HTTP API is not served yet; its place is tried again', facts);
      return false;
    }
    this.#server = server;
    log.info('the local HTTP API is served', { ...place, ...('bindPort' in place && { bindPort: server.port }) });
    return true;
  }
}

// A connection to Redis that lives until something goes wrong with it, and is made anew by whoever asks next: then Sentinels, if
// there are any, are asked anew for the primary. It tries nothing by itself.
import { LonglineError } from '../../core/errors.ts';
import { connectClient, endClient, messageOf, type RedisAccess, type RedisClient } from './redis-client.ts';
import { type SentinelOptions, Sentinels } from './sentinels.ts';

/** Where Redis is and who asks. */
export interface RedisOptions extends RedisAccess {
  /** "redis://host:6379/0", or rediss:// for TLS; may name user and password. */
  readonly url: string;
  /** Who knows the primary's host and port; those of `url` don't count then. */
  readonly sentinels?: SentinelOptions;
}

/** At most one connection. Dispose to end it. */
export class RedisConnection implements Disposable {
  /** For messages: where it is, without user and password. */
  readonly where: string;
  readonly #options: RedisOptions;
  readonly #sentinels: Sentinels | undefined;
  #client: RedisClient | undefined;

  constructor(options: RedisOptions) {
    const { sentinels } = options;
    this.#options = options;
    this.#sentinels = sentinels === undefined ? undefined : new Sentinels(sentinels);
    this.where = sentinels === undefined ? new URL(options.url).host : `${sentinels.primary}, as Sentinels tell`;
  }

  /** Runs a script. Throws `unavailable` for whatever Redis or the network says, and the signal's reason. */
  async run(script: string, keys: readonly string[], args: readonly string[], signal: AbortSignal): Promise<unknown> {
    signal.throwIfAborted();
    // What is under way when time is up is never waited for: Redis may still carry it out.
    const give = () => this[Symbol.dispose]();
    signal.addEventListener('abort', give, { once: true });
    let client: RedisClient | undefined;
    try {
      client = this.#client?.isReady ? this.#client : await this.#connect(signal);
      return await client.eval(script, { keys: [...keys], arguments: [...args] });
    } catch (error) {
      if (client === this.#client) this[Symbol.dispose]();
      signal.throwIfAborted();
      throw new LonglineError('unavailable', `Redis at ${this.where}: ${messageOf(error)}`, { cause: error });
    } finally {
      signal.removeEventListener('abort', give);
    }
  }

  [Symbol.dispose](): void {
    const client = this.#client;
    this.#client = undefined;
    endClient(client);
  }

  async #connect(signal: AbortSignal): Promise<RedisClient> {
    this[Symbol.dispose]();
    const { url } = this.#options;
    const client = await (this.#sentinels?.connect(url, this.#options, signal) ??
      connectClient(url, this.#options, signal));
    // Another call may have been as fast.
    this[Symbol.dispose]();
    this.#client = client;
    return client;
  }
}

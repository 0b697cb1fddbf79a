// A connection to Redis that lives until something goes wrong with it, and is made anew by whoever asks next. It tries nothing
// by itself. The client is loaded with the first connection: who elects by something else does without.
import { LonglineError } from '../../core/errors.ts';

/** Where Redis is and who asks. */
export interface RedisOptions {
  /** "redis://host:6379/0", or rediss:// for TLS; may name user and password. */
  readonly url: string;
  readonly username?: string;
  readonly password?: string;
  /** PEM; without it those of the system. For rediss:// only. */
  readonly trustedCertificates?: string;
}

const CONNECT_LIMIT_MS = 5_000;

interface Client {
  readonly isReady: boolean;
  on(event: 'error', listener: (error: Error) => void): unknown;
  connect(): Promise<unknown>;
  destroy(): void;
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
}

/** At most one connection. Dispose to end it. */
export class RedisConnection implements Disposable {
  /** For messages: host and port, without user and password. */
  readonly where: string;
  readonly #options: RedisOptions;
  #client: Client | undefined;

  constructor(options: RedisOptions) {
    this.#options = options;
    this.where = new URL(options.url).host;
  }

  /** Runs a script. Throws `unavailable` for whatever Redis or the network says, and the signal's reason. */
  async run(script: string, keys: readonly string[], args: readonly string[], signal: AbortSignal): Promise<unknown> {
    signal.throwIfAborted();
    // What is under way when time is up is never waited for: Redis may still carry it out.
    const give = () => this[Symbol.dispose]();
    signal.addEventListener('abort', give, { once: true });
    let client: Client | undefined;
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
    end(client);
  }

  /** Becomes the connection only if it is up while it is still wanted; else it is closed, whenever it comes up. */
  async #connect(signal: AbortSignal): Promise<Client> {
    this[Symbol.dispose]();
    const client = await this.#make();
    signal.throwIfAborted();
    try {
      await client.connect();
      signal.throwIfAborted();
    } catch (error) {
      end(client);
      throw error;
    }
    this.#client = client;
    return client;
  }

  async #make(): Promise<Client> {
    const { url, username, password, trustedCertificates: ca } = this.#options;
    const { createClient } = await import('@redis/client');
    const client = createClient({
      url,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      disableOfflineQueue: true,
      socket: {
        connectTimeout: CONNECT_LIMIT_MS,
        reconnectStrategy: false,
        ...(url.startsWith('rediss:') ? { tls: true as const, ...(ca === undefined ? {} : { ca }) } : {}),
      },
    });
    // What breaks is heard by whoever asks next; without a listener it would end the process.
    client.on('error', () => undefined);
    return client as unknown as Client;
  }
}

function end(client: Client | undefined): void {
  try {
    client?.destroy();
  } catch {
    // It says so if it was closed before.
  }
}

function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0]);
  return error instanceof Error && error.message !== '' ? error.message : String(error);
}

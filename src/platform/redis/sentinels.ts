// Finds the Redis that is the primary now by asking Sentinels, one after the other, and believes none of them: what they name has to
// say itself that it is the primary. A Sentinel that is gone, silent or behind costs a second at most, and is asked last from then on.
import {
  askClient,
  connectClient,
  endClient,
  messageOf,
  type RedisAccess,
  type RedisClient,
  within,
} from './redis-client.ts';

/** Whom to ask for which primary. */
export interface SentinelOptions {
  /** "host:port". */
  readonly addresses: readonly string[];
  /** As the Sentinels call it. */
  readonly primary: string;
}

const ASK_LIMIT_MS = 1_000;

/** Sentinels of one primary. */
export class Sentinels {
  readonly #primary: string;
  #addresses: readonly string[];

  constructor({ addresses, primary }: SentinelOptions) {
    this.#addresses = addresses;
    this.#primary = primary;
  }

  /**
   * A connection to the primary. Of `url` counts all but host and port. Sentinels are asked over TLS if the primary is, and without
   * a password. Throws with what each of them said if none helps.
   */
  async connect(url: string, access: RedisAccess, signal: AbortSignal): Promise<RedisClient> {
    const told: string[] = [];
    for (const sentinel of this.#addresses) {
      try {
        const client = await this.#by(sentinel, url, access, signal);
        this.#addresses = [sentinel, ...this.#addresses.filter((address) => address !== sentinel)];
        return client;
      } catch (error) {
        // Also where whoever asks has no more patience: with the same one first, the others would never have their turn.
        this.#addresses = [...this.#addresses.filter((address) => address !== sentinel), sentinel];
        signal.throwIfAborted();
        told.push(`${sentinel}: ${messageOf(error)}`);
      }
    }
    throw new Error(`no Sentinel helped: ${told.join('; ')}`);
  }

  async #by(sentinel: string, url: string, access: RedisAccess, signal: AbortSignal): Promise<RedisClient> {
    const { protocol } = new URL(url);
    const ca = access.trustedCertificates;
    const trust = ca === undefined ? {} : { trustedCertificates: ca };
    const question = ['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', this.#primary];
    const address = await within(ASK_LIMIT_MS, signal, async (stop) => {
      const client = await connectClient(`${protocol}//${sentinel}`, trust, stop);
      try {
        return await askClient(client, question, stop);
      } finally {
        endClient(client);
      }
    });
    if (!isAddress(address)) throw new Error(`knows no ${JSON.stringify(this.#primary)}`);
    const [host, port] = address;
    const at = new URL(url);
    at.host = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    const client = await connectClient(at.href, access, signal);
    try {
      const role = await askClient(client, ['ROLE'], signal);
      if (Array.isArray(role) && role[0] === 'master') return client;
      throw new Error(`named ${host}:${port}, which is no primary`);
    } catch (error) {
      endClient(client);
      throw error;
    }
  }
}

function isAddress(answer: unknown): answer is [string, string] {
  return Array.isArray(answer) && answer.length === 2 && answer.every((part) => typeof part === 'string');
}

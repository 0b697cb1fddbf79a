// Which peers the agent put on an interface, and where it told WireGuard that each is. Kept on disk, since after a restart nothing
// else tells own peers from others', or an endpoint that a peer roamed to from one that was never brought up to date.
import type { StateStore } from '../../core/capability.ts';
import { Ledger } from '../../core/ledger.ts';

/** Where a peer is was never written, or it isn't known whether it was. */
const UNKNOWN = '';

/** Keys with their endpoints, and keys that are gone. */
interface Change {
  readonly put: readonly (readonly [string, string])[];
  readonly gone: readonly string[];
}

/** One per interface. Calls must not overlap. */
export class WrittenPeers {
  readonly #ledger: Ledger;
  #endpoints = new Map<string, string>();

  constructor(state: StateStore, network: string) {
    this.#ledger = new Ledger(state, `peers/${network}/`);
  }

  async load(): Promise<void> {
    const { base, changes } = await this.#ledger.load();
    for (const record of base === undefined ? changes : [base, ...changes]) {
      const { put, gone } = JSON.parse(Buffer.from(record).toString()) as Change;
      for (const [key, endpoint] of put) this.#endpoints.set(key, endpoint);
      for (const key of gone) this.#endpoints.delete(key);
    }
  }

  /** True if the agent put the peer there, or was about to. */
  has(publicKey: string): boolean {
    return this.#endpoints.has(publicKey);
  }

  /** As last written, by public key. */
  endpoints(): ReadonlyMap<string, string> {
    return new Map([...this.#endpoints].filter(([, endpoint]) => endpoint !== UNKNOWN));
  }

  /** To be durable before peers are added: a kill right after it leaves none that look like somebody else's. */
  async intend(publicKeys: readonly string[]): Promise<void> {
    const put = publicKeys.filter((key) => !this.has(key)).map((key) => [key, UNKNOWN] as const);
    await this.#change({ put, gone: [] });
  }

  /** What was written: all peers that are there and ours, with the endpoints that are known. */
  async settle(publicKeys: Iterable<string>, endpoints: ReadonlyMap<string, string>): Promise<void> {
    const now = new Map([...publicKeys].map((key) => [key, endpoints.get(key) ?? UNKNOWN]));
    const put = [...now].filter(([key, endpoint]) => this.#endpoints.get(key) !== endpoint);
    const gone = [...this.#endpoints.keys()].filter((key) => !now.has(key));
    await this.#change({ put, gone });
  }

  /** Forgets all of it, as when the interface is gone. */
  async clear(): Promise<void> {
    this.#endpoints = new Map();
    await this.#ledger.delete();
  }

  async #change(change: Change): Promise<void> {
    if (change.put.length === 0 && change.gone.length === 0) return;
    for (const [key, endpoint] of change.put) this.#endpoints.set(key, endpoint);
    for (const key of change.gone) this.#endpoints.delete(key);
    const whole = (): Change => ({ put: [...this.#endpoints], gone: [] });
    await this.#ledger.append(encode(change), () => encode(whole()));
  }
}

function encode(change: Change): Buffer {
  return Buffer.from(JSON.stringify(change));
}

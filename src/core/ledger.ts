// A large durable fact that changes a little at a time: a base, and changes that are written one by one and folded into a new base
// once they outweigh it. Killed at any moment it reads as it was before or after a change, never in between.
import type { StateStore } from './capability.ts';

const SEQUENCE_BYTES = 8;
/** A base that is smaller than this isn't worth saving. */
const LEAST_BYTES = 16 * 1024;

/** What a ledger holds. */
export interface LedgerContents {
  readonly base: Uint8Array | undefined;
  /** Since the base, in order. */
  readonly changes: readonly Uint8Array[];
}

/** One per fact. Calls must not overlap; a call that fails may have been written all the same. */
export class Ledger {
  readonly #state: StateStore;
  readonly #prefix: string;
  #sequence = 0;
  #baseBytes = 0;
  #changeBytes = 0;
  #changeKeys: string[] = [];

  /** @param prefix of keys in the store, with a "/" at its end. */
  constructor(state: StateStore, prefix: string) {
    this.#state = state;
    this.#prefix = prefix;
  }

  /** Reads all of it; to be called once, before anything else. */
  async load(): Promise<LedgerContents> {
    const stored = await this.#state.get(`${this.#prefix}base`);
    const base = stored === undefined ? undefined : Buffer.from(stored);
    const changes: Uint8Array[] = [];
    this.#sequence = base === undefined ? 0 : Number(base.readBigUInt64BE(0));
    this.#baseBytes = base?.length ?? 0;
    for (const key of await this.#state.list(`${this.#prefix}change/`)) {
      const sequence = Number(key.slice(key.lastIndexOf('/') + 1));
      const change = await this.#state.get(key);
      this.#changeKeys.push(key);
      // One that the base has already: the process was killed before it could be deleted.
      if (sequence <= this.#sequence || change === undefined) continue;
      this.#sequence = sequence;
      this.#changeBytes += change.length;
      changes.push(change);
    }
    return { base: base?.subarray(SEQUENCE_BYTES), changes };
  }

  /** Durable when it resolves. `whole` gives what the fact is with this change. */
  async append(change: Uint8Array, whole: () => Uint8Array): Promise<void> {
    if (this.#changeBytes + change.length > Math.max(this.#baseBytes, LEAST_BYTES)) return await this.replace(whole());
    this.#sequence += 1;
    const key = `${this.#prefix}change/${String(this.#sequence).padStart(16, '0')}`;
    this.#changeKeys.push(key);
    this.#changeBytes += change.length;
    await this.#state.put(key, change);
  }

  /** Durable when it resolves. */
  async replace(base: Uint8Array): Promise<void> {
    this.#sequence += 1;
    const stored = Buffer.allocUnsafe(SEQUENCE_BYTES + base.length);
    stored.writeBigUInt64BE(BigInt(this.#sequence), 0);
    stored.set(base, SEQUENCE_BYTES);
    await this.#state.put(`${this.#prefix}base`, stored);
    this.#baseBytes = stored.length;
    await this.#dropChanges();
  }

  /** Forgets all of it. */
  async delete(): Promise<void> {
    await this.#dropChanges();
    await this.#state.delete(`${this.#prefix}base`);
    this.#baseBytes = 0;
  }

  async #dropChanges(): Promise<void> {
    const keys = this.#changeKeys;
    this.#changeKeys = [];
    this.#changeBytes = 0;
    await Promise.all(keys.map((key) => this.#state.delete(key)));
  }
}

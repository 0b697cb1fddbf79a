// Networks that programs of this host asked for, kept on disk so that they are there again after a restart.
import type { StateStore } from '../../core/capability.ts';
import { draftOf } from '../../core/network/network-message.ts';
import { type NetworkOrder, strictOrder } from './order.ts';
import { decodeSpec, encodeSpec, type NetworkSpecMessage } from './wire.ts';

const PREFIX = 'local/';

/** One per capability. */
export class LocalNetworks {
  readonly #state: StateStore;
  readonly #orders = new Map<string, NetworkOrder>();

  constructor(state: StateStore) {
    this.#state = state;
  }

  /** Reads what was asked for; what can't be had any more is given to `refused`. */
  async load(refused: (name: string, error: unknown) => void): Promise<void> {
    for (const key of await this.#state.list(PREFIX)) {
      const bytes = await this.#state.get(key);
      try {
        if (bytes !== undefined) this.#add(decodeSpec(bytes));
      } catch (error) {
        refused(key.slice(PREFIX.length), error);
      }
    }
  }

  orders(): Iterable<NetworkOrder> {
    return this.#orders.values();
  }

  has(name: string): boolean {
    return this.#orders.has(name);
  }

  /** Durable when it resolves. */
  async put(spec: NetworkSpecMessage): Promise<void> {
    await this.#state.put(PREFIX + spec.name, encodeSpec(spec));
    this.#add(spec);
  }

  /** Durable when it resolves. */
  async delete(name: string): Promise<void> {
    await this.#state.delete(PREFIX + name);
    this.#orders.delete(name);
  }

  #add(spec: NetworkSpecMessage): void {
    this.#orders.set(spec.name, strictOrder('local', draftOf(spec)));
  }
}

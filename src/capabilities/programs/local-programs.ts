// Programs that were asked for on this host, kept on disk so that they are there again after a restart.
import type { StateStore } from '../../core/capability.ts';
import { decodeSpec, encodeSpec, type ProgramSpecMessage } from './wire.ts';

const PREFIX = 'local/';

/** One per capability. */
export class LocalPrograms {
  readonly #state: StateStore;
  readonly #specs = new Map<string, ProgramSpecMessage>();

  constructor(state: StateStore) {
    this.#state = state;
  }

  /** Reads what was asked for; what can't be read is given to `damaged`. */
  async load(damaged: (name: string, error: unknown) => void): Promise<void> {
    for (const key of await this.#state.list(PREFIX)) {
      const bytes = await this.#state.get(key);
      try {
        if (bytes !== undefined) this.#specs.set(key.slice(PREFIX.length), decodeSpec(bytes));
      } catch (error) {
        damaged(key.slice(PREFIX.length), error);
      }
    }
  }

  all(): readonly ProgramSpecMessage[] {
    return [...this.#specs.values()];
  }

  has(name: string): boolean {
    return this.#specs.has(name);
  }

  /** Durable when it resolves. */
  async put(spec: ProgramSpecMessage): Promise<void> {
    await this.#state.put(PREFIX + spec.name, encodeSpec(spec));
    this.#specs.set(spec.name, spec);
  }

  /** Durable when it resolves. */
  async delete(name: string): Promise<void> {
    await this.#state.delete(PREFIX + name);
    this.#specs.delete(name);
  }
}

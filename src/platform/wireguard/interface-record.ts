// What is on disk about an interface of ours: written before anything is done, so that whatever a killed agent left is known.
import type { StateStore } from '../../core/capability.ts';
import { BACKENDS, type Backend } from '../../core/network/network-spec.ts';
import type { ProcessIdentity } from './daemon-process.ts';

const PREFIX = 'interface/';

/** An interface that we made, are making, or adopted from somebody else. */
export interface InterfaceRecord {
  readonly name: string;
  readonly realName: string;
  readonly kind: Backend;
  /** Made by somebody else: never taken away. */
  readonly foreign: boolean;
  /** Its daemon, from before that does anything; undefined if there was none yet, or the kernel needs none. */
  readonly daemon: DaemonRecord | undefined;
}

/** A daemon of ours. */
export interface DaemonRecord extends ProcessIdentity {
  /** Numbers of the capabilities that it was left. */
  readonly capabilities: readonly number[];
}

/** The records of one agent. */
export class InterfaceRecords {
  readonly #state: StateStore;

  constructor(state: StateStore) {
    this.#state = state;
  }

  /** Undefined also for a record that can't be read: what it was about still carries our label. */
  async get(name: string): Promise<InterfaceRecord | undefined> {
    const bytes = await this.#state.get(PREFIX + name);
    return bytes === undefined ? undefined : parse(Buffer.from(bytes).toString());
  }

  async all(): Promise<readonly InterfaceRecord[]> {
    const keys = await this.#state.list(PREFIX);
    const records = await Promise.all(keys.map((key) => this.get(key.slice(PREFIX.length))));
    return records.filter((record) => record !== undefined);
  }

  async put(record: InterfaceRecord): Promise<void> {
    await this.#state.put(PREFIX + record.name, Buffer.from(JSON.stringify(record)));
  }

  async delete(name: string): Promise<void> {
    await this.#state.delete(PREFIX + name);
  }
}

function parse(text: string): InterfaceRecord | undefined {
  try {
    const record = JSON.parse(text) as InterfaceRecord;
    return BACKENDS.includes(record.kind) && typeof record.realName === 'string' ? record : undefined;
  } catch {
    return undefined;
  }
}

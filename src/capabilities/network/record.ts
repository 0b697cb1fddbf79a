// What has to be known of a network to take it away again, or to go on with it: written before the first effect, and deleted after the
// last has been undone. Survives JSON unchanged.
import type { StateStore } from '../../core/capability.ts';
import type { Backend } from '../../core/network/network-spec.ts';
import { type StoredRecord, storedRecord } from '../../core/stored-record.ts';
import { EMPTY_RECORD, type LinkRecord } from './link.ts';
import type { Source } from './status.ts';

/** One network that is there, is coming, or is going. */
export interface NetworkRecord {
  readonly name: string;
  readonly source: Source;
  /** As it was asked for. */
  readonly interface: string;
  /** As the system calls it; undefined as long as it wasn't opened. */
  readonly realName: string | undefined;
  readonly backend: Backend | undefined;
  /** True for one that somebody else made, and that stays when the network goes. */
  readonly isForeign: boolean;
  /** True if forwarding was ever asked for. */
  readonly forwards: boolean;
  /** True if name servers were ever asked for. */
  readonly resolves: boolean;
}

const PREFIX = 'network/';

/** Records over the capability's state store. */
export class NetworkRecords {
  readonly #state: StateStore;

  constructor(state: StateStore) {
    this.#state = state;
  }

  /** Durable when it resolves. */
  async put(record: NetworkRecord): Promise<void> {
    await this.#state.put(PREFIX + record.name, Buffer.from(JSON.stringify(record)));
  }

  async delete(name: string): Promise<void> {
    await this.#state.delete(PREFIX + name);
  }

  async all(): Promise<readonly NetworkRecord[]> {
    const records: NetworkRecord[] = [];
    for (const key of await this.#state.list(PREFIX)) {
      const bytes = await this.#state.get(key);
      if (bytes !== undefined) records.push(JSON.parse(Buffer.from(bytes).toString()) as NetworkRecord);
    }
    return records;
  }
}

/** What we set on the interface of a network, as it is kept. */
export function linkRecord(state: StateStore, network: string): StoredRecord<LinkRecord> {
  return storedRecord(state, `link/${network}`, EMPTY_RECORD);
}

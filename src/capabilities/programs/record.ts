// What has to be known of a program to go on with it after a crash, or to take it away again: written before the first effect, and
// deleted after the last has been undone.
import type { StateStore } from '../../core/capability.ts';
import { fromJson, toJson } from '../../core/exact-json.ts';
import type { Life } from './lifecycle.ts';
import type { Lifetime } from './lifetime.ts';
import type { ArtifactOrigin } from './ports.ts';
import type { RevisionRecord } from './revision-record.ts';
import type { PendingRollback, RollbackRecord } from './rollback.ts';

/** What is being done. */
export type Goal =
  /** `current` runs, or nothing if there is none. */
  | { readonly kind: 'run' }
  /** `next` takes its place. */
  | { readonly kind: 'update' }
  /** `previous` does, or nothing. */
  | { readonly kind: 'roll_back'; readonly rollback: PendingRollback }
  /** All of it goes. */
  | { readonly kind: 'stop'; readonly why: 'removed' | 'expired' | 'replaced' };

/** Why a program is over, and for which spec, by the digest of all of it: with that one it stays over. */
export interface Over {
  readonly why: 'expired' | 'replaced';
  readonly spec: string;
  /** Program that took its place; empty for none. */
  readonly by: string;
}

/** A program that is there, is coming, or is going. */
export interface ProgramRecord {
  readonly name: string;
  readonly source: ArtifactOrigin;
  /** Of the host when it was written: with another one nothing is loaded any more. */
  readonly bootId: string;
  /** In which order programs came to be loaded first. */
  readonly sequence: number;
  readonly life: Life;
  readonly lifeAtMs: number;
  readonly lastNumber: number;
  readonly goal: Goal;
  readonly current: RevisionRecord | undefined;
  readonly previous: RevisionRecord | undefined;
  readonly next: RevisionRecord | undefined;
  /** Undefined until it is loaded first. */
  readonly lifetime: Lifetime | undefined;
  /** Renewal of the spec that the lifetime began with. */
  readonly renewal: string;
  readonly over: Over | undefined;
  readonly lastRollback: RollbackRecord | undefined;
}

const PREFIX = 'program/';

/** Records over the capability's state store. */
export class ProgramRecords {
  readonly #state: StateStore;

  constructor(state: StateStore) {
    this.#state = state;
  }

  /** Durable when it resolves. */
  async put(record: ProgramRecord): Promise<void> {
    await this.#state.put(PREFIX + record.name, Buffer.from(toJson(record)));
  }

  /** Durable when it resolves. */
  async delete(name: string): Promise<void> {
    await this.#state.delete(PREFIX + name);
  }

  /** All that can be read; what can't is given to `damaged`: nothing is known of such a program any more. */
  async all(damaged: (name: string, error: unknown) => void): Promise<readonly ProgramRecord[]> {
    const records: ProgramRecord[] = [];
    for (const key of await this.#state.list(PREFIX)) {
      const bytes = await this.#state.get(key);
      try {
        if (bytes !== undefined) records.push(fromJson(Buffer.from(bytes).toString()) as ProgramRecord);
      } catch (error) {
        damaged(key.slice(PREFIX.length), error);
      }
    }
    return records;
  }
}

// Rollbacks: what is asked for, what is under way, and what became of them. The history is on disk, and holds the latest hundred.
import type { StateStore } from '../../core/capability.ts';
import type { Reason } from '../../core/errors.ts';
import { fromJson, toJson } from '../../core/exact-json.ts';
import type { RollbackTrigger } from '../../core/programs/program-state.ts';
import type { ProgramFigures } from './figures.ts';
import type { RememberedRevision } from './revision-record.ts';

/** Why a program is to be rolled back. */
export interface RollbackCause {
  readonly trigger: RollbackTrigger;
  /** 0 where there is none. */
  readonly threshold: number;
  readonly value: number;
  readonly figures: ProgramFigures | undefined;
  /** For people. */
  readonly reason: string;
  /** A command id, "local", "nats"; empty if the agent itself did. */
  readonly requestedBy: string;
}

/** One that was decided on. */
export interface PendingRollback extends RollbackCause {
  readonly id: string;
  readonly program: string;
  /** What is left. */
  readonly from: RememberedRevision;
  /** Milliseconds since the epoch. */
  readonly atMs: number;
}

/** One that came to its end. */
export interface RollbackRecord extends PendingRollback {
  /** What runs instead; undefined if the program was unloaded. */
  readonly to: RememberedRevision | undefined;
  /** Why it did not come about as it should; undefined if it did. */
  readonly error: { readonly reason: Reason; readonly message: string } | undefined;
}

const PREFIX = 'rollback/';
const MOST = 100;

/** The history, over the capability's state store. */
export class RollbackHistory {
  readonly #state: StateStore;
  readonly #records = new Map<string, RollbackRecord>();
  readonly #counts = new Map<RollbackTrigger, { succeeded: number; failed: number }>();

  constructor(state: StateStore) {
    this.#state = state;
  }

  /** Reads it; what can't be read is given to `damaged` and left out. */
  async load(damaged: (id: string, error: unknown) => void): Promise<void> {
    for (const key of await this.#state.list(PREFIX)) {
      const bytes = await this.#state.get(key);
      try {
        if (bytes === undefined) continue;
        const record = fromJson(Buffer.from(bytes).toString()) as RollbackRecord;
        this.#records.set(record.id, record);
      } catch (error) {
        damaged(key.slice(PREFIX.length), error);
      }
    }
  }

  /** The latest first. */
  all(): readonly RollbackRecord[] {
    return [...this.#records.values()].reverse();
  }

  /** How many came to their end since the process was started, by why. */
  get counts(): ReadonlyMap<RollbackTrigger, { readonly succeeded: number; readonly failed: number }> {
    return this.#counts;
  }

  /** Durable when it resolves. The same one again is no second one. */
  async add(record: RollbackRecord): Promise<void> {
    await this.#state.put(PREFIX + record.id, Buffer.from(toJson(record)));
    if (!this.#records.has(record.id)) this.#count(record);
    this.#records.set(record.id, record);
    // Ids sort by the time of their making, and so do keys.
    const tooMany = [...this.#records.keys()].slice(0, Math.max(0, this.#records.size - MOST));
    for (const id of tooMany) {
      await this.#state.delete(PREFIX + id);
      this.#records.delete(id);
    }
  }

  #count({ trigger, error }: RollbackRecord): void {
    const counts = this.#counts.get(trigger) ?? { succeeded: 0, failed: 0 };
    if (error === undefined) counts.succeeded += 1;
    else counts.failed += 1;
    this.#counts.set(trigger, counts);
  }
}

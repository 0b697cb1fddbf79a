// The one durable fact about an execution that only we can know: that its container was about to be started. Written
// beside attach and arm, which take as long, so it costs a cold start nothing; on the warm path it is the one fsync.
// Without it a container that somebody removed could not be told from one that never existed, and would run twice.
import type { StateStore } from '../../core/capability.ts';

/** What is kept from before start until the result is durable. */
export interface RunRecord {
  readonly containerId: string;
  readonly warm: boolean;
  /** When the record was made: for a warm container the start of the job, milliseconds since the epoch. */
  readonly atMs: number;
  /** True once the job's whole input is in its hands, or it has none: only then does a restart of ours not cut it. */
  readonly inputDone: boolean;
}

const PREFIX = 'run/';

/** Run records over the capability's state store. Writes of one execution keep their order. */
export class RunRecords {
  readonly #state: StateStore;

  constructor(state: StateStore) {
    this.#state = state;
  }

  /** Undefined if there is none. A record that can't be read counts as one with an unknown container. */
  async get(executionId: string): Promise<RunRecord | undefined> {
    const bytes = await this.#state.get(PREFIX + executionId);
    return bytes === undefined ? undefined : decode(bytes);
  }

  /** Durable when it resolves. */
  async put(executionId: string, record: RunRecord): Promise<void> {
    await this.#state.put(PREFIX + executionId, Buffer.from(JSON.stringify(record)));
  }

  async delete(executionId: string): Promise<void> {
    await this.#state.delete(PREFIX + executionId);
  }

  /** All records by execution. */
  async all(): Promise<ReadonlyMap<string, RunRecord>> {
    const records = new Map<string, RunRecord>();
    for (const key of await this.#state.list(PREFIX)) {
      const executionId = key.slice(PREFIX.length);
      const record = await this.get(executionId);
      if (record !== undefined) records.set(executionId, record);
    }
    return records;
  }
}

function decode(bytes: Uint8Array): RunRecord {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(bytes).toString());
    if (typeof parsed === 'object' && parsed !== null) {
      const { containerId, warm, atMs, inputDone } = parsed as Partial<RunRecord>;
      if (typeof containerId === 'string' && typeof atMs === 'number') {
        return { containerId, warm: warm === true, atMs, inputDone: inputDone === true };
      }
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return { containerId: '', warm: false, atMs: 0, inputDone: false };
}

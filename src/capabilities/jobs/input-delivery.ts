// Brings a job's input to its process, and notes durably when all of it is there: a restart of ours cuts the connection,
// and a job that exits well after that may have seen half its input.
import type { Logger } from '../../core/logger.ts';
import { InputGate } from './input-gate.ts';
import type { LiveContainer } from './live-container.ts';
import type { RunRecords } from './run-record.ts';
import type { RunState } from './run-state.ts';

/** Input of one job. */
export class InputDelivery {
  readonly gate: InputGate;
  readonly #executionId: string;
  readonly #records: RunRecords;
  readonly #state: RunState;
  readonly #log: Logger;
  #noting: Promise<void> = Promise.resolve();

  constructor(executionId: string, records: RunRecords, state: RunState, log: Logger) {
    this.#executionId = executionId;
    this.#records = records;
    this.#state = state;
    this.#log = log;
    this.gate = new InputGate(() => this.#allTaken());
  }

  /** Hands inline input over, or lets streamed input through. Resolves when the first is done with; never rejects. */
  async give(live: LiveContainer): Promise<void> {
    const wanted = this.#state.spec!.input;
    if (live.input === undefined || wanted.kind === 'none') return this.gate.close();
    if (wanted.kind === 'stream') return this.gate.open(live.input);
    try {
      if (wanted.data.length > 0) await live.input.writeInput(wanted.data);
      await live.input.endInput();
      this.#allTaken();
    } catch (error) {
      // The job did not want all of it, or the connection broke, which shows elsewhere.
      this.#log.debug('inline input was not taken whole', { executionId: this.#executionId, err: error });
    }
  }

  #allTaken(): void {
    this.#state.inputDone = true;
    if (this.#state.ran === undefined) return;
    const { containerId, warm, startedAtMs } = this.#state.ran;
    this.#noting = this.#records
      .put(this.#executionId, { containerId, warm, atMs: startedAtMs, inputDone: true })
      .catch((error: unknown) => this.#log.warn('could not note that a job has its input', { err: error }));
  }

  /** Forgets the job durably, after any note that is still being written. */
  async forget(): Promise<void> {
    await this.#noting;
    await this.#records.delete(this.#executionId);
  }
}

// Standard input of one job: bytes by offset, each once, in order, at the pace at which the job reads them.
import { LonglineError } from '../../core/errors.ts';
import type { Attachment } from './ports.ts';

/** What InputConsumer.writeInput answers. */
export interface InputReceipt {
  readonly taken: number;
  readonly closed: boolean;
}

type GateState =
  /** The job has not started: writers wait. */
  | { readonly kind: 'waiting' }
  /** The job runs: bytes go to its process. */
  | { readonly kind: 'open'; readonly sink: Pick<Attachment, 'writeInput' | 'endInput'> }
  /** No more is wanted: it ended, closed its input, got all of it, or never takes any. */
  | { readonly kind: 'closed' };

const MAX_WRITERS = 64;

/** Takes input for one job. Writers may come at any time before, while and after it runs. */
export class InputGate {
  #opened = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  readonly #onEnd: () => void;
  #state: GateState = { kind: 'waiting' };
  #taken = 0;
  #writers = 0;
  #tail: Promise<void> = Promise.resolve();

  /** @param onEnd called when the end of the input was handed to the process. */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  /** The job runs and takes input. */
  open(sink: Pick<Attachment, 'writeInput' | 'endInput'>): void {
    if (this.#state.kind !== 'waiting') return;
    this.#state = { kind: 'open', sink };
    this.#opened.resolve();
  }

  /** Waits again, for another process; false if the first one was given anything or may have been. */
  reopen(): boolean {
    if (this.#state.kind !== 'open' || this.#taken > 0 || this.#writers > 0) return false;
    this.#state = { kind: 'waiting' };
    this.#opened = Promise.withResolvers<void>();
    return true;
  }

  /** No more is wanted; waiting writers return at once. Idempotent. */
  close(): void {
    this.#state = { kind: 'closed' };
    this.#closed.resolve();
  }

  /**
   * As InputConsumer.writeInput. Rejects with `wrong_state` if bytes before `offset` are missing, with `limit` if too
   * many writers wait already.
   */
  async write(offset: number, data: Uint8Array, end: boolean): Promise<InputReceipt> {
    if (this.#writers >= MAX_WRITERS) {
      throw new LonglineError('limit', `${this.#writers} writes of standard input wait already; send fewer at once`);
    }
    this.#writers += 1;
    const turn = this.#tail.then(() => this.#take(offset, data, end));
    this.#tail = turn.catch(() => undefined);
    try {
      await turn;
      return { taken: this.#taken, closed: this.#state.kind === 'closed' };
    } finally {
      this.#writers -= 1;
    }
  }

  async #take(offset: number, data: Uint8Array, end: boolean): Promise<void> {
    await Promise.race([this.#opened.promise, this.#closed.promise]);
    if (this.#state.kind !== 'open') return;
    if (offset > this.#taken) {
      throw new LonglineError(
        'wrong_state',
        `input begins at ${offset}, but only ${this.#taken} bytes were taken so far`,
      );
    }
    const { sink } = this.#state;
    const fresh = data.subarray(Math.min(this.#taken - offset, data.length));
    const whole = offset + data.length >= this.#taken;
    const done = (async () => {
      if (fresh.length > 0) await sink.writeInput(fresh);
      this.#taken += fresh.length;
      if (end && whole) {
        await sink.endInput();
        this.#onEnd();
        this.close();
      }
    })().catch(() => {
      // The process closed its input or ended: the sender is told that no more is wanted, which is no failure.
      this.close();
    });
    await Promise.race([done, this.#closed.promise]);
  }
}

// Events of one command on their way to whoever carries it out: steps coalesce while nobody reads, the result waits.
import type { CapabilityEvent } from '../../core/capability.ts';
import type { JobEnding, JobStep } from './events.ts';
import { encodeEnding, encodeStep, OUTCOME } from './wire.ts';

/**
 * One reader. A step replaces an unread one of its kind, so at most one of each kind is held. `finish` resolves when the
 * reader came back after the result: a reader that makes results durable before it reads on has done so then. The
 * reader sees the end once `abandon` was called: what is to be tidied up after a result is done by then.
 */
export class EventStream implements AsyncIterable<CapabilityEvent> {
  readonly #onBegin: () => void;
  readonly #onLeave: () => void;
  readonly #steps: JobStep[] = [];
  readonly #taken = Promise.withResolvers<boolean>();
  readonly #over = Promise.withResolvers<void>();
  #ending: JobEnding | undefined;
  #phase: /** Nobody reads yet. */
    | 'unread'
    /** Events are handed out. */
    | 'open'
    /** The result was handed out. */
    | 'told'
    /** Nothing more comes. */
    | 'over' = 'unread';
  #begun = false;
  #wake: (() => void) | undefined;

  /** @param onBegin called at the first read. @param onLeave called if the reader leaves before the result. */
  constructor(onBegin: () => void, onLeave: () => void) {
    this.#onBegin = onBegin;
    this.#onLeave = onLeave;
  }

  /** True once somebody read. */
  get begun(): boolean {
    return this.#begun;
  }

  /** Tells of a step. Does nothing once ended. */
  step(step: JobStep): void {
    if (this.#ending !== undefined || this.#phase === 'over') return;
    const same = this.#steps.findIndex((held) => held.kind === step.kind);
    if (same >= 0) this.#steps.splice(same, 1);
    this.#steps.push(step);
    this.#wake?.();
  }

  /** Tells the result. True once the reader came back after it; false if it was never read. */
  finish(ending: JobEnding): Promise<boolean> {
    this.#ending ??= ending;
    this.#wake?.();
    return this.#taken.promise;
  }

  /**
   * Nothing more comes. Without a result before it the command stays unfinished, to be found again by the next process.
   */
  abandon(): void {
    this.#end();
  }

  [Symbol.asyncIterator](): AsyncIterator<CapabilityEvent, undefined> {
    return {
      next: async () => {
        if (this.#phase === 'unread') {
          this.#phase = 'open';
          this.#begun = true;
          this.#onBegin();
        }
        const value = await this.#next();
        return value === undefined ? { done: true, value: undefined } : { done: false, value };
      },
      return: async () => {
        if (this.#phase === 'told') await this.#tidied();
        else if (this.#phase === 'open') this.#onLeave();
        this.#end();
        return { done: true, value: undefined };
      },
    };
  }

  async #next(): Promise<CapabilityEvent | undefined> {
    for (;;) {
      if (this.#phase === 'over') return undefined;
      const step = this.#steps.shift();
      if (step !== undefined) return { kind: 'progress', detail: encodeStep(step) };
      if (this.#phase === 'told') {
        await this.#tidied();
        return undefined;
      }
      if (this.#ending !== undefined) {
        this.#phase = 'told';
        const { state, error } = this.#ending;
        const detail = encodeEnding(this.#ending);
        return { kind: 'result', outcome: OUTCOME[state], detail, ...(error === undefined ? {} : { error }) };
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
      this.#wake = undefined;
    }
  }

  async #tidied(): Promise<void> {
    this.#taken.resolve(true);
    await this.#over.promise;
  }

  #end(): void {
    this.#taken.resolve(false);
    this.#over.resolve();
    this.#phase = 'over';
    this.#steps.length = 0;
    this.#wake?.();
  }
}

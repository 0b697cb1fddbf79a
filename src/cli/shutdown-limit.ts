// The end of a process that was asked to end and doesn't: what it holds up is written to disk already or is found by the next one.
import { writeSync } from 'node:fs';
import { formatDuration } from '../core/clock.ts';

/** Kills the process if this isn't disposed within the limit after the signal aborted. */
export class ShutdownLimit implements Disposable {
  readonly #signal: AbortSignal;
  readonly #onAbort: () => void;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param limit milliseconds, asked for at the abort.
   * @param setting what an operator would change, for the message.
   */
  constructor(signal: AbortSignal, limit: () => number, setting: string) {
    this.#signal = signal;
    this.#onAbort = () => {
      const limitMs = limit();
      this.#timer = setTimeout(() => {
        // Nothing that waits for its turn can be relied on any more.
        writeSync(2, `longline: did not end in order within ${formatDuration(limitMs)} (${setting}); it is killed\n`);
        // Not exit, which waits for file operations that hang.
        process.kill(process.pid, 'SIGKILL');
      }, limitMs);
      this.#timer.unref();
    };
    if (signal.aborted) this.#onAbort();
    else signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#signal.removeEventListener('abort', this.#onAbort);
  }
}

// Ctrl-C, in two steps: the first asks the command to end in order, the second ends the process at once.
import { LonglineError } from '../core/errors.ts';
import { EXIT } from './exit-code.ts';

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Catches SIGINT and SIGTERM until it is disposed. */
export class InterruptGuard implements Disposable {
  readonly #aborter = new AbortController();
  readonly #listener: () => void;

  constructor() {
    this.#listener = () => {
      if (this.#aborter.signal.aborted) {
        // An exit waits for file operations that hang; a third signal then does what it does to any process.
        this[Symbol.dispose]();
        process.exit(EXIT.interrupted);
      }
      this.#aborter.abort(new LonglineError('cancelled', 'interrupted'));
    };
    for (const name of SIGNALS) process.on(name, this.#listener);
  }

  /** Aborts at the first signal. */
  get signal(): AbortSignal {
    return this.#aborter.signal;
  }

  [Symbol.dispose](): void {
    for (const name of SIGNALS) process.off(name, this.#listener);
  }
}

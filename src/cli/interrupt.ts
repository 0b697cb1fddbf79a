// Ctrl-C and SIGTERM, in two steps: the first asks the command to end in order, the second ends the process at once, with 128 and the
// number of the signal as its code.
import { LonglineError } from '../core/errors.ts';
import { endNow } from '../platform/process/immediate-end.ts';
import { EXIT } from './exit-code.ts';

const CODES = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.terminated } as const;
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Catches SIGINT and SIGTERM until it is disposed. */
export class InterruptGuard implements Disposable {
  readonly #aborter = new AbortController();
  readonly #listener: (name: NodeJS.Signals) => void;

  constructor() {
    this.#listener = (name) => {
      if (this.#aborter.signal.aborted) endNow(CODES[name as keyof typeof CODES]);
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

// The bounds of one call to the engine: its time limit, the caller's signal and the adapter's own end, as one signal
// whose listeners are gone when the call is over. (AbortSignal.any leaks on signals that live as long as the process.)
import { LonglineError } from '../../core/errors.ts';

/** Abort sources of one call. Dispose it when the call is over. */
export class CallScope implements Disposable {
  readonly #controller = new AbortController();
  readonly #unlisten: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  #cause: LonglineError | undefined;

  /** @param what names the call in the error for its time limit; @param limitMs undefined for no limit. */
  constructor(what: string, limitMs: number | undefined, parents: readonly (AbortSignal | undefined)[]) {
    for (const parent of parents) {
      if (parent === undefined) continue;
      const onAbort = () => this.#end(abortCause(parent));
      if (parent.aborted) onAbort();
      else parent.addEventListener('abort', onAbort, { once: true });
      this.#unlisten.push(() => parent.removeEventListener('abort', onAbort));
    }
    if (limitMs !== undefined && !this.signal.aborted) {
      this.#timer = setTimeout(() => {
        this.#end(
          new LonglineError('unavailable', `the container engine did not answer within ${limitMs} ms (${what})`),
        );
      }, limitMs);
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Why the scope ended the call; undefined if it didn't. */
  get cause(): LonglineError | undefined {
    return this.#cause;
  }

  /** Ends the time limit but not the signal: the answer has begun. */
  begun(): void {
    clearTimeout(this.#timer);
  }

  /** Ends what belongs to the call, as the caller's own decision. */
  end(): void {
    this.#end(new LonglineError('cancelled', 'the call to the container engine is over'));
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const unlisten of this.#unlisten.splice(0)) unlisten();
  }

  #end(cause: LonglineError): void {
    this.#cause ??= cause;
    this.#controller.abort(this.#cause);
  }
}

function abortCause(signal: AbortSignal): LonglineError {
  const reason: unknown = signal.reason;
  if (reason instanceof LonglineError) return reason;
  return new LonglineError('cancelled', 'the call to the container engine was cancelled', { cause: reason });
}

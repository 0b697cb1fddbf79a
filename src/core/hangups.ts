// SIGHUP, from the first moment of a process to its last. By default it ends a process; here it asks for settings to be read anew, and is
// never lost: one that comes while the process starts is heeded once it can be, one that comes while it ends is ignored.

/** One per process. Dispose at the very end. */
export class Hangups implements Disposable {
  readonly #handlers: (() => void)[] = [];
  readonly #listener = () => this.#heard();
  #isEarly = true;
  #isPending = false;

  constructor() {
    process.on('SIGHUP', this.#listener);
  }

  /** Calls `handler` at each one until what this gives is disposed, and soon if one came before there was any. The latest handler has it. */
  handle(handler: () => void): Disposable {
    this.#handlers.push(handler);
    this.#isEarly = false;
    if (this.#isPending) queueMicrotask(this.#listener);
    this.#isPending = false;
    return {
      [Symbol.dispose]: () => {
        const place = this.#handlers.lastIndexOf(handler);
        if (place >= 0) this.#handlers.splice(place, 1);
      },
    };
  }

  [Symbol.dispose](): void {
    process.off('SIGHUP', this.#listener);
  }

  #heard(): void {
    if (this.#isEarly) this.#isPending = true;
    else this.#handlers.at(-1)?.();
  }
}

// One output stream of the command line. The only place that writes to standard output and standard error.
import type { Writable } from 'node:stream';
import { LonglineError } from '../core/errors.ts';

/** What a writer needs to know of its stream beside being writable. */
export type TerminalStream = Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };

/** Codes that mean that the reader has left, as `head` does. */
const READER_GONE = new Set(['EPIPE', 'ERR_STREAM_DESTROYED', 'ERR_STREAM_WRITE_AFTER_END', 'ECONNRESET']);

/**
 * Writes with backpressure. A reader that leaves (EPIPE) is no failure: `closed` aborts and later writes are dropped.
 * Any other failure, such as a full disk, is thrown by the next write. The stream stays its owner's to end.
 */
export class OutputWriter {
  readonly #stream: TerminalStream;
  readonly #gone = new AbortController();
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(stream: TerminalStream) {
    this.#stream = stream;
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (!READER_GONE.has(error.code ?? '')) this.#failure = error;
      this.#gone.abort(error);
      this.#wake?.();
    });
    stream.on('drain', () => this.#wake?.());
    stream.on('close', () => {
      this.#gone.abort();
      this.#wake?.();
    });
  }

  get isTty(): boolean {
    return this.#stream.isTTY === true;
  }

  /** Width of the terminal in characters; 80 where it isn't known. */
  get columns(): number {
    return this.#stream.columns ?? 80;
  }

  /** Size of the terminal in characters; undefined if there is none. */
  get size(): { readonly columns: number; readonly rows: number } | undefined {
    const { columns, rows } = this.#stream;
    return this.isTty && columns && rows ? { columns, rows } : undefined;
  }

  /** Calls back when the size of the terminal changed, until disposed. */
  onResize(listener: () => void): Disposable {
    this.#stream.on('resize', listener);
    return { [Symbol.dispose]: () => void this.#stream.off('resize', listener) };
  }

  /** Aborts once nothing written will be read any more. */
  get closed(): AbortSignal {
    return this.#gone.signal;
  }

  /** Writes unchanged bytes or UTF-8 text; resolves when there is room for more. Calls must be awaited one by one. */
  async write(data: Uint8Array | string): Promise<void> {
    this.#throwFailure();
    if (this.#gone.signal.aborted || data.length === 0) return;
    if (!this.#stream.write(data)) {
      while (this.#stream.writableNeedDrain && !this.#gone.signal.aborted) await this.#change();
    }
    this.#throwFailure();
  }

  /** Writes text and a line end. */
  async line(text = ''): Promise<void> {
    await this.write(`${text}\n`);
  }

  /** Resolves when everything written was handed to the system, or the reader has left. */
  async flush(): Promise<void> {
    if (this.#gone.signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#stream.write('', () => resolve());
    this.#gone.signal.addEventListener('abort', () => resolve(), { once: true });
    await promise;
    this.#throwFailure();
  }

  async #change(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    await promise;
    this.#wake = undefined;
  }

  #throwFailure(): void {
    if (this.#failure === undefined) return;
    throw new LonglineError('limit', `output can't be written: ${this.#failure.message}`, { cause: this.#failure });
  }
}

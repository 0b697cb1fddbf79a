// Before an exporter of OpenTelemetry's: counts what becomes of each batch.
import type { ExportTally } from './export-tally.ts';

/** How an export ended, as OpenTelemetry has it: 0 is success. */
interface ExportResult {
  readonly code: number;
  readonly error?: Error;
}

/** An exporter of spans or of log lines. */
interface Exporter<T> {
  export(items: T[], done: (result: ExportResult) => void): void;
  forceFlush?(): Promise<void>;
  shutdown(): Promise<void>;
}

/** An exporter that counts. */
export class CountedExporter<T> implements Exporter<T> {
  readonly #inner: Exporter<T>;
  readonly #tally: ExportTally;

  constructor(inner: Exporter<T>, tally: ExportTally) {
    this.#inner = inner;
    this.#tally = tally;
  }

  export(items: T[], done: (result: ExportResult) => void): void {
    const ended = this.#tally.departs(items.length);
    this.#inner.export(items, (result) => {
      ended(result.code === 0 ? undefined : (result.error ?? new Error('no reason given')));
      done(result);
    });
  }

  async forceFlush(): Promise<void> {
    await this.#inner.forceFlush?.();
  }

  async shutdown(): Promise<void> {
    await this.#inner.shutdown();
  }
}

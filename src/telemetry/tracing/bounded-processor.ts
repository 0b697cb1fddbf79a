// Before the batch processor: gives it no more spans than it may hold, and counts them.
import type { ReadableSpan, Span as SdkSpan, SpanProcessor } from '@opentelemetry/sdk-trace';
import type { ExportTally } from '../otlp/export-tally.ts';

/** A processor whose inner one holds at most `most` spans. */
export class BoundedProcessor implements SpanProcessor {
  readonly #inner: SpanProcessor;
  readonly #tally: ExportTally;
  readonly #most: number;

  constructor(inner: SpanProcessor, tally: ExportTally, most: number) {
    this.#inner = inner;
    this.#tally = tally;
    this.#most = most;
  }

  onStart(span: SdkSpan, context: Parameters<SpanProcessor['onStart']>[1]): void {
    this.#inner.onStart(span, context);
  }

  onEnd(span: ReadableSpan): void {
    if (this.#tally.admit(this.#most)) this.#inner.onEnd(span);
  }

  async forceFlush(): Promise<void> {
    await this.#inner.forceFlush();
  }

  async shutdown(): Promise<void> {
    await this.#inner.shutdown();
  }
}

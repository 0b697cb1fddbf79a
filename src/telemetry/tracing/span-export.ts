// What keeps spans in bounds on their way out, and counts them: most of them wait in the batch processor's queue, which is given
// no more than it may hold, and each batch ends as sent or as failed. A collector that is down or slow costs spans and no memory.
import type { ReadableSpan, Span as SdkSpan, SpanExporter, SpanProcessor } from '@opentelemetry/sdk-trace';
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';

/** Spans that ended since the start. `ended` is the sum of the others at any time. */
export interface SpanCounts {
  readonly ended: number;
  /** To be sent. */
  readonly waiting: number;
  /** On their way. */
  readonly sending: number;
  readonly sent: number;
  /** The collector refused them, or was not reached in time. */
  readonly failed: number;
  /** There was no room for them. */
  readonly dropped: number;
}

/** Between words of the same trouble. */
const TELL_EVERY_MS = 60_000;

/** Counts, and tells of losses now and then. */
export class SpanTally {
  readonly #clock: Clock;
  readonly #log: Logger;
  #toldMs = Number.NEGATIVE_INFINITY;
  ended = 0;
  waiting = 0;
  sending = 0;
  sent = 0;
  failed = 0;
  dropped = 0;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  get counts(): SpanCounts {
    const { ended, waiting, sending, sent, failed, dropped } = this;
    return { ended, waiting, sending, sent, failed, dropped };
  }

  /** At most once a minute: a collector that is down is so for every batch. */
  tellLoss(why: string): void {
    const nowMs = this.#clock.monotonic();
    if (nowMs - this.#toldMs < TELL_EVERY_MS) return;
    this.#toldMs = nowMs;
    this.#log.warn('spans are lost: traces will have holes', { why, ...this.counts });
  }
}

/** Before the batch processor: gives it no more than `most` to hold. */
export class BoundedProcessor implements SpanProcessor {
  readonly #inner: SpanProcessor;
  readonly #tally: SpanTally;
  readonly #most: number;

  constructor(inner: SpanProcessor, tally: SpanTally, most: number) {
    this.#inner = inner;
    this.#tally = tally;
    this.#most = most;
  }

  onStart(span: SdkSpan, context: Parameters<SpanProcessor['onStart']>[1]): void {
    this.#inner.onStart(span, context);
  }

  onEnd(span: ReadableSpan): void {
    const tally = this.#tally;
    tally.ended += 1;
    if (tally.waiting >= this.#most) {
      tally.dropped += 1;
      tally.tellLoss(`${this.#most} spans wait already, the most that are held`);
      return;
    }
    tally.waiting += 1;
    this.#inner.onEnd(span);
  }

  async forceFlush(): Promise<void> {
    await this.#inner.forceFlush();
  }

  async shutdown(): Promise<void> {
    await this.#inner.shutdown();
  }
}

/** Before the exporter: knows what becomes of each batch. */
export class CountedExporter implements SpanExporter {
  readonly #inner: SpanExporter;
  readonly #tally: SpanTally;

  constructor(inner: SpanExporter, tally: SpanTally) {
    this.#inner = inner;
    this.#tally = tally;
  }

  export(spans: ReadableSpan[], done: Parameters<SpanExporter['export']>[1]): void {
    const tally = this.#tally;
    const count = spans.length;
    tally.waiting -= count;
    tally.sending += count;
    this.#inner.export(spans, (result) => {
      tally.sending -= count;
      // ExportResultCode.SUCCESS
      if (result.code === 0) tally.sent += count;
      else {
        tally.failed += count;
        tally.tellLoss(`the collector took none of ${count}: ${result.error?.message ?? 'no reason given'}`);
      }
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

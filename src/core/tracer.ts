// Spans as a module sees them: steps of something asked for, which whoever asked may look at later as one trace.
// src/telemetry/tracing makes the tracer that sends them; where nobody asked for traces there is `noTracer`, and a span costs
// a call. Nothing here fails, and what is done in a span is the same with and without it.

/** Facts of a span. Never put a secret, a command line or anybody's data here; undefined ones are left out. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** A span's side of an exchange: what answers a call or takes a message, what calls or sends, or neither. */
export type SpanKind = 'internal' | 'server' | 'client' | 'producer' | 'consumer';

/** What a span is started with. */
export interface SpanOptions {
  /**
   * W3C trace context that it belongs to: of a span in another process, or in this one at another time. Empty, or none that is
   * sound, begins a new trace. Undefined for the span that is current, and a new trace if there is none.
   */
  readonly parent?: string | undefined;
  readonly kind?: SpanKind;
  readonly attributes?: SpanAttributes;
  /** Milliseconds since the epoch; now if undefined. */
  readonly startedAtMs?: number;
}

/** A step that goes on. Whoever started it ends it, once, whatever happens. */
export interface Span {
  /** W3C trace context to hand on to what belongs below it; empty if there is no trace. */
  readonly traceparent: string;
  set(attributes: SpanAttributes): void;
  /**
   * It went wrong. The error's message is told with secrets struck out; nothing of its causes is. `type` says in one word what
   * kind of failure it is, where the error doesn't.
   */
  fail(error: unknown, type?: string): void;
  /** Makes it the current span of `work`, and of whatever that awaits or starts. */
  run<T>(work: () => T): T;
  end(): void;
}

/** Starts spans. */
export interface Tracer {
  start(name: string, options?: SpanOptions): Span;
  /** W3C trace context of the current span; empty if there is none. */
  current(): string;
  /** Does `work` with no span current: for what goes on long after whatever began it. */
  apart<T>(work: () => T): T;
}

/** A span that nobody looks at. */
export const noSpan: Span = {
  traceparent: '',
  set: () => undefined,
  fail: () => undefined,
  run: (work) => work(),
  end: () => undefined,
};

/** Traces nothing. */
export const noTracer: Tracer = { start: () => noSpan, current: () => '', apart: (work) => work() };

/** Does `work` in a span of its own, which fails if that throws. */
export async function traced<T>(
  tracer: Tracer,
  name: string,
  options: SpanOptions,
  work: (span: Span) => Promise<T>,
): Promise<T> {
  const span = tracer.start(name, options);
  try {
    return await span.run(() => work(span));
  } catch (error) {
    span.fail(error);
    throw error;
  } finally {
    span.end();
  }
}

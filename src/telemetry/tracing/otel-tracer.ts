// Spans of core/tracer.ts on OpenTelemetry's tracer. Strings go out with secrets struck out, as they do in logs; callers must not
// rely on that. It uses no global of OpenTelemetry's, so that several tracers can be in one process.
import {
  type Attributes,
  type Context,
  type Span as OtelSpan,
  type Tracer as OtelTracer,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import { LonglineError } from '../../core/errors.ts';
import { ATTRIBUTE } from '../../core/span-names.ts';
import type { Span, SpanAttributes, SpanOptions, Tracer } from '../../core/tracer.ts';
import { redactText } from '../logger.ts';
import { type CurrentSpan, currentSpan } from './current-span.ts';
import { parseTraceparent } from './traceparent.ts';

const KINDS: Readonly<Record<NonNullable<SpanOptions['kind']>, SpanKind>> = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
};
const MAX_TEXT = 1024;

/** A tracer whose spans go where the given one's do. */
export function tracerOn(otel: OtelTracer): Tracer {
  return {
    start: (name, { parent, kind = 'internal', attributes = {}, startedAtMs } = {}) => {
      const context = parent === undefined ? (currentSpan.getStore()?.context ?? ROOT_CONTEXT) : contextOf(parent);
      const options = {
        kind: KINDS[kind],
        attributes: clean(attributes),
        ...(startedAtMs === undefined ? {} : { startTime: new Date(startedAtMs) }),
      };
      return new TracedSpan(otel.startSpan(name, options, context), context);
    },
    current: () => {
      const store = currentSpan.getStore();
      return store === undefined ? '' : formatted(store);
    },
    apart: (work) => currentSpan.exit(work),
  };
}

class TracedSpan implements Span {
  readonly #span: OtelSpan;
  readonly #current: CurrentSpan;

  constructor(span: OtelSpan, context: Context) {
    this.#span = span;
    this.#current = { context: trace.setSpan(context, span), ids: span.spanContext() };
  }

  get traceparent(): string {
    return formatted(this.#current);
  }

  set(attributes: SpanAttributes): void {
    this.#span.setAttributes(clean(attributes));
  }

  fail(error: unknown, kind?: string): void {
    const type =
      kind ?? (error instanceof LonglineError ? error.reason : error instanceof Error ? error.name : 'unknown');
    const message = cut(error instanceof Error ? error.message : String(error));
    this.#span.setAttribute(ATTRIBUTE.errorType, type);
    this.#span.addEvent('exception', { [ATTRIBUTE.exceptionType]: type, [ATTRIBUTE.exceptionMessage]: message });
    this.#span.setStatus({ code: SpanStatusCode.ERROR, message });
  }

  run<T>(work: () => T): T {
    return currentSpan.run(this.#current, work);
  }

  end(): void {
    this.#span.end();
  }
}

function contextOf(traceparent: string): Context {
  const ids = parseTraceparent(traceparent);
  return ids === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, { ...ids, isRemote: true });
}

function formatted({ ids }: CurrentSpan): string {
  return `00-${ids.traceId}-${ids.spanId}-${ids.traceFlags & 1 ? '01' : '00'}`;
}

function clean(attributes: SpanAttributes): Attributes {
  const kept: Attributes = {};
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) kept[name] = typeof value === 'string' ? cut(value) : value;
  }
  return kept;
}

function cut(text: string): string {
  const clean = redactText(text);
  return clean.length > MAX_TEXT ? `${clean.slice(0, MAX_TEXT)}…` : clean;
}

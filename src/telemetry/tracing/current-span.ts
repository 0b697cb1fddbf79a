// The span that is current where code runs, across awaits. Known to the logger, which names it on each line, and to the tracer.
// Where nothing is traced it is never entered, and looking costs next to nothing.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Context, SpanContext } from '@opentelemetry/api';

/** A span in force. */
export interface CurrentSpan {
  readonly context: Context;
  readonly ids: SpanContext;
}

/** One for the process, as async context is. */
export const currentSpan = new AsyncLocalStorage<CurrentSpan>();

/** Ids for a log line; undefined where nothing is traced. */
export function currentIds(): { readonly trace_id: string; readonly span_id: string } | undefined {
  const ids = currentSpan.getStore()?.ids;
  return ids && { trace_id: ids.traceId, span_id: ids.spanId };
}

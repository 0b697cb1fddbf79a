// A tracer that records nothing, for a process that others' traces go through: what is asked within a caller's trace is handed on
// within it. Where a caller has no trace it costs what `noTracer` does.
import { AsyncLocalStorage } from 'node:async_hooks';
import { noSpan, type Span, type Tracer } from '../../core/tracer.ts';
import { isTraceparent } from './traceparent.ts';

/** A tracer of its own. All its spans are that of the caller. */
export function tracePassing(): Tracer {
  const current = new AsyncLocalStorage<Span>();
  const passing = (traceparent: string): Span => {
    const span: Span = { ...noSpan, traceparent, run: (work) => current.run(span, work) };
    return span;
  };
  return {
    start: (_, { parent } = {}) => {
      if (parent === undefined) return current.getStore() ?? noSpan;
      return isTraceparent(parent) ? passing(parent) : noSpan;
    },
    current: () => current.getStore()?.traceparent ?? '',
    apart: (work) => current.exit(work),
  };
}

// W3C's traceparent: https://www.w3.org/TR/trace-context/#traceparent-header

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;

/** What one names. */
export interface TraceIds {
  readonly traceId: string;
  readonly spanId: string;
  readonly traceFlags: number;
}

/** The ids of a sound one; undefined for any other text. */
export function parseTraceparent(text: string): TraceIds | undefined {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(text) ?? [];
  if (traceId === undefined) return undefined;
  return { traceId, spanId: spanId!, traceFlags: Number.parseInt(flags!, 16) & 1 };
}

/** True for one that is sound. */
export function isTraceparent(text: string): boolean {
  return TRACEPARENT.test(text);
}

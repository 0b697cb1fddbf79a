// Which part of a log a request asks for. Pure.
import { type FieldViolation, invalid } from '../../core/errors.ts';
import { MAX_STREAMS, STREAM_NAME } from '../logs/log-state.ts';
import type { LogRange } from '../logs/log-store.ts';

/** Checks offsets and streams of a request. */
export function rangeOf(request: {
  readonly from: Readonly<Record<string, bigint>>;
  readonly streams: readonly string[];
}): LogRange {
  const violations: FieldViolation[] = [];
  const names = [...Object.keys(request.from), ...request.streams];
  if (names.length > 2 * MAX_STREAMS)
    violations.push({ field: 'streams', description: `names more than ${MAX_STREAMS} streams` });
  for (const name of names.slice(0, 2 * MAX_STREAMS)) {
    if (STREAM_NAME.test(name)) continue;
    violations.push({
      field: 'streams',
      description: `'${name.slice(0, 80)}' must be 1 to 64 characters of [A-Za-z0-9._-]`,
    });
  }
  for (const [name, offset] of Object.entries(request.from)) {
    if (offset <= BigInt(Number.MAX_SAFE_INTEGER)) continue;
    violations.push({ field: `from[${name.slice(0, 80)}]`, description: `${offset} is too large` });
  }
  if (violations.length > 0) throw invalid(violations);
  const from = new Map(Object.entries(request.from).map(([name, offset]) => [name, Number(offset)]));
  return { from, streams: new Set(request.streams) };
}

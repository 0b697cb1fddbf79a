// A log line as OpenTelemetry has it: severity, body, and attributes by the names that they have in the line. Pure. What comes in has
// its secrets struck out; what goes out has a most, so that lines that wait have one too.
import type { LogLine } from '../logger.ts';

/** By OpenTelemetry's data model for logs. */
export const SEVERITY: Readonly<Record<LogLine['level'], number>> = { debug: 5, info: 9, warn: 13, error: 17 };

/** Most characters of a line. A batch of 512 then fits what collectors take over gRPC unasked, 4 MiB. */
const MAX_TEXT = 8000;
const CUT = '…';

type Value = string | number | boolean | null | Value[] | { [name: string]: Value };

/** What is sent of a line. */
export interface LogRecordFacts {
  readonly severityNumber: number;
  readonly severityText: string;
  readonly body: string;
  readonly attributes: Record<string, Value>;
}

/** The record of a line; `name` and `pid` are the resource's. */
export function recordOf({ level, message, fields }: LogLine): LogRecordFacts {
  const room = { left: MAX_TEXT };
  const body = fit(message, room) as string;
  const { name: _name, pid: _pid, ...own } = fields;
  const attributes = fit(own, room) as Record<string, Value>;
  return { severityNumber: SEVERITY[level], severityText: level.toUpperCase(), body, attributes };
}

/** A copy whose text takes no more than the room that is left; undefined for what can't be sent. */
function fit(value: unknown, room: { left: number }): Value | undefined {
  if (typeof value === 'string') {
    const kept = value.length <= room.left ? value : `${value.slice(0, Math.max(room.left, 0))}${CUT}`;
    room.left -= kept.length;
    return kept;
  }
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return value;
  if (typeof value !== 'object') return undefined;
  if (Array.isArray(value)) return value.map((item) => fit(item, room) ?? null);
  const copy: Record<string, Value> = {};
  for (const [name, item] of Object.entries(value)) {
    const kept = room.left <= 0 ? undefined : fit(item, room);
    room.left -= name.length;
    if (kept !== undefined) copy[name] = kept;
  }
  return copy;
}

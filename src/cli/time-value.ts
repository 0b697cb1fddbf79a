// Parser for options that take a point in time.
import { InvalidArgumentError } from 'commander';

/** RFC 3339 with zone, to milliseconds since the epoch. */
export function timeValue(text: string): number {
  const ms = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(ms)) return ms;
  throw new InvalidArgumentError('Give a time with zone, such as 2030-01-31T12:00:00Z.');
}

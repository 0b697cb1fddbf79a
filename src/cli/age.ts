// Times as people read them in tables.
import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt';
import { formatDuration } from '../core/clock.ts';

/** "5m3s ago", "in 2h"; a dash if there is none. */
export function ageOf(time: Timestamp | undefined, nowMs: number): string {
  if (time === undefined) return '-';
  const ms = nowMs - timestampMs(time);
  const shown = formatDuration(Math.max(1000, Math.round(Math.abs(ms) / 1000) * 1000));
  return ms >= 0 ? `${shown} ago` : `in ${shown}`;
}

// Whether a command may still be started.
import type { Command } from '#gen/longline/link/v1/link_pb.js';
import { formatDuration } from '../core/clock.ts';
import { invalid, LonglineError } from '../core/errors.ts';
import { timeMs } from './wire.ts';

/** Clocks that differ by more are worth a word where a command is late. */
const SKEW_NOTE_MS = 5000;

/** When it expires. Throws `invalid` without a time, `late` if that is over; `skewMs` is the controller's clock minus this host's. */
export function checkExpiry(command: Command, nowMs: number, skewMs: number | undefined): number {
  const expiresAtMs = timeMs(command.expireTime);
  if (expiresAtMs === undefined || Number.isNaN(expiresAtMs)) {
    const description = 'is missing; give the time after which the command must not start';
    throw invalid([{ field: 'command.expire_time', description }]);
  }
  if (expiresAtMs <= nowMs) {
    const late = `the command expired at ${new Date(expiresAtMs).toISOString()}; it is ${new Date(nowMs).toISOString()} here`;
    throw new LonglineError('late', `${late}${skewNote(skewMs)}`);
  }
  return expiresAtMs;
}

/** What a refusal for lateness adds when the clocks are the reason to suspect. */
function skewNote(skewMs: number | undefined): string {
  if (skewMs === undefined || Math.abs(skewMs) < SKEW_NOTE_MS) return '';
  const side = skewMs < 0 ? 'ahead of' : 'behind';
  return `, where the clock is ${formatDuration(Math.abs(skewMs))} ${side} the controller's: set both right`;
}

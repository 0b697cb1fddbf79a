// How verification words a refusal.
import { LonglineError } from '../../core/errors.ts';

/** A refusal by one named check. */
export function refuse(
  reason: 'invalid' | 'identity' | 'policy' | 'stale' | 'late',
  rule: string,
  message: string,
): LonglineError {
  return new LonglineError(reason, message, { rule });
}

/** A time for messages. */
export function iso(ms: number): string {
  return new Date(ms).toISOString();
}

/** A text from a peer for messages: quoted and bounded. */
export function shown(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}

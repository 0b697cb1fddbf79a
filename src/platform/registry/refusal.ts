// What an answer other than the one that was asked for means.
import { LonglineError } from '../../core/errors.ts';
import { type HttpAnswer, place } from './http-client.ts';

const LONGEST_WAIT_MS = 3_600_000;

/** The error for such an answer, which is dropped. */
export function refusalOf(answer: HttpAnswer, what: string): LonglineError {
  answer.drop();
  const { status, url } = answer;
  const message = `${place(url)} ${what}: HTTP ${status}`;
  if (status === 404 || status === 410) return new LonglineError('not_found', message);
  if (status === 401 || status === 403) {
    return new LonglineError('unavailable', `${message}; it doesn't take this agent's credentials`);
  }
  const retryAfterMs = retryAfter(answer);
  return new LonglineError('unavailable', message, retryAfterMs === undefined ? {} : { retryAfterMs });
}

/** Only the form in seconds: a date would be by the other side's clock. */
function retryAfter(answer: HttpAnswer): number | undefined {
  const value = answer.header('retry-after');
  return value !== undefined && /^\d{1,9}$/.test(value) ? Math.min(Number(value) * 1000, LONGEST_WAIT_MS) : undefined;
}

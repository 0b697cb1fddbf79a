// Waiting until somebody has read what was written, with a limit.
import type { EventEmitter } from 'node:events';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';

/** Longest time that a reader may leave what it was sent unread. */
const STALL_MS = 60_000;

const EVENTS = ['drain', 'close', 'cancelled', 'error'] as const;

/** Resolves once the stream can be written again, has ended, or `signal` aborts. Throws `late` if nothing is read for a minute. */
export async function drained(stream: EventEmitter, clock: Clock, signal?: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const leave = (): void => resolve();
  for (const event of EVENTS) stream.once(event, leave);
  signal?.addEventListener('abort', leave, { once: true });
  const over = new AbortController();
  let late = false;
  const stall = clock.sleep(STALL_MS, over.signal).then(
    () => {
      late = true;
      resolve();
    },
    () => undefined,
  );
  if (signal?.aborted) leave();
  await promise;
  over.abort();
  await stall;
  signal?.removeEventListener('abort', leave);
  for (const event of EVENTS) stream.off(event, leave);
  if (late) throw new LonglineError('late', `nothing was read for ${STALL_MS / 1000} s; ask for the rest again`);
}

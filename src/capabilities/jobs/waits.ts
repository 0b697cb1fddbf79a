// Waiting with a limit.
import type { Clock } from '../../core/clock.ts';

/** True if `promise` fulfils within `ms`; false if it takes longer. Rejects if it rejects. */
export async function fulfils(promise: Promise<unknown>, ms: number, clock: Clock): Promise<boolean> {
  const over = new AbortController();
  const limit = clock.sleep(ms, over.signal).then(
    () => false,
    () => true,
  );
  try {
    return await Promise.race([promise.then(() => true), limit]);
  } finally {
    over.abort();
  }
}

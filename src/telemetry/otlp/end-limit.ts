// How a process ends its exports: each is waited for, within a limit.
import type { Clock } from '../../core/clock.ts';

/** Longest wait for the collector when a process ends, and for each answer where the environment says nothing. */
export const FLUSH_MS = 3000;
const TIMEOUT_MS = 5000;

/** Longest wait for an answer of a collector, so that one that hangs doesn't outlast the end by much. */
export function answerLimitMs(flushMs: number): number {
  return Math.min(TIMEOUT_MS, flushMs + 1000);
}

/** Waits for what sends a last time. What that fails with is counted and told as it happens. */
export async function within(work: Promise<void>, limitMs: number, clock: Clock): Promise<void> {
  const over = new AbortController();
  await Promise.race([work.catch(() => undefined), clock.sleep(limitMs, over.signal).catch(() => undefined)]);
  over.abort();
}

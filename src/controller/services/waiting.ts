// Waiting for a wake-up, with a limit, until the first of several signals. Leaves no listener behind.
import type { Clock } from '../../core/clock.ts';
import type { BusEvent, BusMessage, Subscription } from '../bus/bus.ts';

/** Made once: an abort without a reason makes an error with a stack each time. */
const OVER = new Error('the wait is over');

/** The next event; undefined when the time is over, a signal aborts or the subscription ends. */
export async function nextWithin<M extends BusMessage>(
  subscription: Subscription<M>,
  clock: Clock,
  limitMs: number,
  ...signals: readonly AbortSignal[]
): Promise<BusEvent<M> | undefined> {
  const over = new AbortController();
  const abort = () => over.abort(OVER);
  for (const signal of signals) {
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  }
  void clock.sleep(limitMs, over.signal).then(abort, () => undefined);
  try {
    return await subscription.next(over.signal);
  } finally {
    abort();
    for (const signal of signals) signal.removeEventListener('abort', abort);
  }
}

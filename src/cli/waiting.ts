// Waiting until what was asked for is so: looks again and again, also over a controller that restarts.
import type { Command } from 'commander';
import { formatDuration, systemClock } from '../core/clock.ts';
import { LonglineError } from '../core/errors.ts';
import type { Fleet } from './fleet-connection.ts';
import { InterruptGuard } from './interrupt.ts';
import { ReconnectBudget } from './job/reconnect-budget.ts';
import { durationValue } from './option-values.ts';

const LOOK_EVERY_MS = 250;
const DEFAULT_LIMIT_MS = 120_000;

/** What the options say. */
export interface WaitOptions {
  readonly wait?: boolean;
  readonly limit: number;
}

/** Adds `--wait` and its limit. */
export function addWaitOptions(command: Command, until: string): Command {
  return command
    .option('--wait', `wait until ${until}`)
    .option('--limit <duration>', 'with --wait: how long; then it goes on by itself', durationValue, DEFAULT_LIMIT_MS);
}

/**
 * Looks until `look` gives something. Throws `late` with what it waited for when the limit has passed, and whatever `look`
 * throws but a lost connection.
 */
export async function waitFor<T>(
  fleet: Fleet,
  limitMs: number,
  look: () => Promise<T | undefined>,
  missing: () => string,
): Promise<T> {
  using interrupt = new InterruptGuard();
  const { signal } = interrupt;
  const budget = new ReconnectBudget();
  const startMs = performance.now();
  for (;;) {
    try {
      const found = await look();
      budget.progress();
      if (found !== undefined) return found;
    } catch (error) {
      await budget.wait(error, (thrown) => fleet.toError(thrown), signal);
    }
    if (performance.now() - startMs >= limitMs) {
      throw new LonglineError('late', `${missing()} after ${formatDuration(limitMs)}; it goes on`);
    }
    await systemClock.sleep(LOOK_EVERY_MS, signal).catch((error: unknown) => {
      throw signal.aborted ? signal.reason : error;
    });
  }
}

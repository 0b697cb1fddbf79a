// How long a command goes on when its connection breaks: full-jitter backoff, up to a limit without any progress.
import { Code, ConnectError } from '@connectrpc/connect';
import { Backoff } from '../../core/backoff.ts';
import { type Clock, formatDuration, systemClock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';

/** Answers that will not change: the request itself is at fault. */
const FINAL: ReadonlySet<Code> = new Set([
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.PermissionDenied,
  Code.FailedPrecondition,
  Code.Unauthenticated,
  Code.Unimplemented,
  Code.OutOfRange,
]);

/** Codes that a broken connection may show as; they end the command all the same if they come again and again. */
const TRIES_WITHOUT_PROGRESS = 5;

/** Limits of a budget, milliseconds. */
export interface ReconnectLimits {
  /** Longest time from the first failure, without progress since, before the command gives up. */
  readonly giveUpMs: number;
  readonly baseMs: number;
  readonly capMs: number;
}

/** What holds for operators: five minutes, tries at most five seconds apart. */
export const DEFAULT_RECONNECT: ReconnectLimits = { giveUpMs: 300_000, baseMs: 250, capMs: 5_000 };

/** Decides whether to try again after a failure, and waits before it. */
export class ReconnectBudget {
  readonly #limits: ReconnectLimits;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  /** When the failures began that no progress came after; undefined while all is well. */
  #failingSinceMs: number | undefined;
  #hadProgress = false;

  constructor(limits: ReconnectLimits = DEFAULT_RECONNECT, clock: Clock = systemClock) {
    this.#limits = limits;
    this.#clock = clock;
    this.#backoff = new Backoff(limits);
  }

  /** Call for every message that came. */
  progress(): void {
    this.#hadProgress = true;
    this.#failingSinceMs = undefined;
    this.#backoff.reset();
  }

  /**
   * Waits before the next try. Throws what was thrown if trying again is of no use, and `unavailable` once the limit is
   * reached. A command that had no answer at all yet fails at once, so that a wrong address doesn't take five minutes.
   */
  async wait(thrown: unknown, describe: (thrown: unknown) => unknown, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (!this.#hadProgress || !this.#mayPass(thrown)) throw describe(thrown);
    this.#failingSinceMs ??= this.#clock.monotonic();
    const idleMs = this.#clock.monotonic() - this.#failingSinceMs;
    if (idleMs > this.#limits.giveUpMs) {
      const last = describe(thrown);
      const message = `no connection for ${formatDuration(idleMs)}, gave up: ${last instanceof Error ? last.message : last}`;
      throw new LonglineError('unavailable', message, { cause: thrown });
    }
    await this.#clock.sleep(this.#backoff.next(), signal);
  }

  #mayPass(thrown: unknown): boolean {
    if (thrown instanceof LonglineError) return thrown.reason === 'unavailable';
    if (!(thrown instanceof ConnectError)) return (thrown as NodeJS.ErrnoException | undefined)?.code !== undefined;
    if (FINAL.has(thrown.code)) return false;
    return (
      thrown.code === Code.Unavailable || this.#backoff.attempt < TRIES_WITHOUT_PROGRESS || thrown.cause !== undefined
    );
  }
}

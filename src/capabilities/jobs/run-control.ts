// What may cut a job short: cancel, expiry before start, timeout after it, and the capability being let go.
import type { Clock } from '../../core/clock.ts';
import { MAX_TIMER_MS } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { StopCause, Verdict } from './events.ts';
import { unstarted } from './verdict.ts';

/** Thrown to end a job with a verdict from wherever it stands. */
export class EarlyEnd extends Error {
  override readonly name = 'EarlyEnd';
  readonly verdict: Verdict;

  constructor(verdict: Verdict) {
    super(`the job ended early: ${verdict.reason}`);
    this.verdict = verdict;
  }
}

/** Thrown to leave a job as it is, without a result: its container goes on and is found by the next process. */
export class LetGo extends Error {
  override readonly name = 'LetGo';
}

/** Control of one job. Dispose it when the job has ended. */
export class RunControl implements Disposable {
  readonly #clock: Clock;
  readonly #early = new AbortController();
  readonly #gone = new AbortController();
  readonly #stop = Promise.withResolvers<StopCause>();
  readonly #whenGone = Promise.withResolvers<never>();
  readonly #timers = new AbortController();
  readonly #cancelSignal: AbortSignal;
  readonly #onCancel: () => void;
  #started = false;
  #cause: StopCause | undefined;

  constructor(clock: Clock, cancelSignal: AbortSignal) {
    this.#clock = clock;
    // Whoever waits looks at it; often nobody does.
    this.#whenGone.promise.catch(() => undefined);
    this.#cancelSignal = cancelSignal;
    this.#onCancel = () => {
      const reason: unknown = cancelSignal.reason;
      const error = reason instanceof LonglineError && reason.reason === 'cancelled' ? reason : undefined;
      this.#early.abort(new EarlyEnd(unstarted('cancelled', 'cancelled', error)));
      this.requestStop('cancelled');
    };
    if (cancelSignal.aborted) this.#onCancel();
    else cancelSignal.addEventListener('abort', this.#onCancel, { once: true });
  }

  /** For waits before start. Its reason is an EarlyEnd or a LetGo. */
  get early(): AbortSignal {
    return this.#early.signal;
  }

  /** Aborts with a LetGo when the job is let go. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Rejects with that LetGo; never fulfils. */
  get whenGone(): Promise<never> {
    return this.#whenGone.promise;
  }

  /** Resolves with the first cause to stop what runs. */
  get stopAsked(): Promise<StopCause> {
    return this.#stop.promise;
  }

  /** The first cause to stop, if any. */
  get cause(): StopCause | undefined {
    return this.#cause;
  }

  /** Asks to stop; the first cause holds. */
  requestStop(cause: StopCause): void {
    this.#cause ??= cause;
    this.#stop.resolve(this.#cause);
  }

  /** Leaves everything as it is. */
  letGo(): void {
    const reason = new LetGo();
    this.#gone.abort(reason);
    this.#whenGone.reject(reason);
    this.#early.abort(reason);
  }

  /** Ends the job as `late` if it has not started by then. Milliseconds since the epoch. */
  armExpiry(expiresAtMs: number): void {
    const leftMs = expiresAtMs - this.#clock.now();
    if (leftMs > MAX_TIMER_MS) return;
    this.#after(leftMs, () => {
      if (this.#started) return;
      const message = `the job expired at ${new Date(expiresAtMs).toISOString()}, before it could be started`;
      this.#early.abort(new EarlyEnd(unstarted('rejected', 'rejected', new LonglineError('late', message))));
    });
  }

  /** The job runs since then; its timeout is counted from there. Only the first call counts. */
  armTimeout(startedAtMs: number, timeoutMs: number): void {
    if (this.#started) return;
    this.#started = true;
    const leftMs = Math.min(timeoutMs, startedAtMs + timeoutMs - this.#clock.now());
    this.#after(leftMs, () => this.requestStop('timeout'));
  }

  #after(ms: number, act: () => void): void {
    if (ms <= 0) act();
    else this.#clock.sleep(ms, this.#timers.signal).then(act, () => undefined);
  }

  [Symbol.dispose](): void {
    this.#timers.abort();
    this.#cancelSignal.removeEventListener('abort', this.#onCancel);
  }
}

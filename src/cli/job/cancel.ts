// Cancelling a job that may not even have an id yet.
import { LonglineError } from '../../core/errors.ts';
import type { Fleet } from '../fleet-connection.ts';
import { ReconnectBudget } from './reconnect-budget.ts';

/** Longest time that a cancel is tried again while the controller is away. */
const LIMITS = { giveUpMs: 10_000, baseMs: 200, capMs: 2_000 };

/** Sends one CancelJob, as soon as it is both asked for and possible. Dispose to stop trying. */
export class JobCancel implements AsyncDisposable {
  readonly #fleet: Fleet;
  readonly #disposed = new AbortController();
  readonly #undelivered = new AbortController();
  #jobId: string | undefined;
  #reason: string | undefined;
  #sending: Promise<void> | undefined;

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  get requested(): boolean {
    return this.#reason !== undefined;
  }

  /** Aborts when the controller couldn't be reached in time: the job goes on, and nobody waits for its end any more. */
  get undelivered(): AbortSignal {
    return this.#undelivered.signal;
  }

  /** The job has an id from now on. */
  stored(jobId: string): void {
    this.#jobId = jobId;
    this.#start();
  }

  /** Asks for the cancel; the first reason counts. */
  request(reason: string): void {
    this.#reason ??= reason;
    this.#start();
  }

  #start(): void {
    if (this.#jobId === undefined || this.#reason === undefined) return;
    this.#sending ??= this.#send(this.#jobId, this.#reason);
  }

  async #send(jobId: string, reason: string): Promise<void> {
    const { signal } = this.#disposed;
    const budget = new ReconnectBudget(LIMITS);
    budget.progress();
    while (!signal.aborted) {
      try {
        await this.#fleet.jobs.cancelJob({ jobId, reason }, { signal });
        return;
      } catch (error) {
        if (signal.aborted) return;
        // What the controller refuses for good, such as a job that has ended meanwhile, needs no word: the job's end,
        // which is still followed, says what became of it.
        const again = await budget
          .wait(error, (thrown) => this.#fleet.toError(thrown), signal)
          .then(
            () => true,
            (failure: unknown) => {
              if (failure instanceof LonglineError && failure.reason === 'unavailable')
                this.#undelivered.abort(failure);
              return false;
            },
          );
        if (!again) return;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed.abort();
    await this.#sending;
  }
}

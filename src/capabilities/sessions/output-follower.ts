// Follows the output of one run of a session's container into its durable log: attached before the start, found again after
// a lost engine or a restart of the agent, closed when the run is over. Never holds the container up, never fails a session.
import { Backoff } from '../../core/backoff.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { OutputPiece } from '../../core/output/output-log.ts';
import { OutputRecorder, unseen } from '../../core/output/output-recorder.ts';
import type { OutputConnection } from './ports.ts';
import type { SessionServices } from './services.ts';

const DRAIN_LIMIT_MS = 5000;
const AGAIN = { baseMs: 500, capMs: 15_000 } as const;

/** Which run. */
export interface FollowedRun {
  readonly sessionId: string;
  readonly logId: string;
  readonly containerId: string;
  /** Starts of the container, this one included: the attempt of its log. */
  readonly attempt: number;
  readonly startedAtMs: number;
  readonly terminal: boolean;
  /** The output came to its end while the run was thought to go on: it is likely over. */
  readonly ended: () => void;
}

/** One run's output. The owner ends it with `close` when the run is over, or `letGo` when it goes on without us. */
export class OutputFollower {
  readonly #services: SessionServices;
  readonly #run: FollowedRun;
  readonly #recorder: OutputRecorder;
  readonly #stop = new AbortController();
  #connection: OutputConnection | undefined;
  #over = false;
  #pumping: Promise<void> = Promise.resolve();

  private constructor(services: SessionServices, run: FollowedRun, recorder: OutputRecorder) {
    this.#services = services;
    this.#run = run;
    this.#recorder = recorder;
  }

  /** Opens the log and attaches; call before the container is started. Throws what attaching failed with. */
  static async attach(services: SessionServices, run: FollowedRun, signal: AbortSignal): Promise<OutputFollower> {
    const { engine, logs, clock } = services;
    const [opened, attached] = await Promise.allSettled([
      logs.open(run.logId, run.attempt),
      engine.attachOutput(run.containerId, run.terminal, signal),
    ]);
    if (attached.status === 'fulfilled' && opened.status === 'rejected') attached.value.destroy();
    if (opened.status === 'rejected') throw opened.reason;
    const recorder = new OutputRecorder(opened.value, Number.POSITIVE_INFINITY, clock);
    if (attached.status === 'rejected') {
      await recorder.close().catch(() => undefined);
      throw attached.reason;
    }
    const follower = new OutputFollower(services, run, recorder);
    follower.#connection = attached.value;
    follower.#pumping = follower.#pump(attached.value.output);
    return follower;
  }

  /** Goes on with a run that began earlier, where its log ends. */
  static async resume(services: SessionServices, run: FollowedRun): Promise<OutputFollower> {
    const log = await services.logs.open(run.logId, run.attempt);
    const recorder = new OutputRecorder(log, Number.POSITIVE_INFINITY, services.clock);
    const follower = new OutputFollower(services, run, recorder);
    follower.#pumping = follower.#again();
    return follower;
  }

  /** The run is over: takes what is still on its way, for a while, if `drain`, and closes the log. */
  async close(drain: boolean): Promise<void> {
    this.#over = true;
    if (drain) await this.#drained();
    this.#end();
    await this.#recorder.close().catch((error: unknown) => this.#failed(error));
  }

  /** Resolves when the output has ended, or nothing more of it is waited for. */
  async #drained(): Promise<void> {
    const limit = new AbortController();
    const late = this.#services.clock.sleep(DRAIN_LIMIT_MS, limit.signal).catch(() => undefined);
    await Promise.race([this.#pumping, late]);
    limit.abort();
  }

  /** Lets go of the connection; the log stays open for whoever follows next. */
  letGo(): void {
    this.#over = true;
    this.#end();
  }

  #end(): void {
    this.#stop.abort(new LonglineError('cancelled', 'the output is not followed any more'));
    this.#connection?.destroy();
  }

  async #pump(output: AsyncIterable<OutputPiece>): Promise<void> {
    try {
      for await (const piece of output) await this.#recorder.record(piece);
      if (!this.#over) this.#run.ended();
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      this.#services.log.debug('output broke off', { sessionId: this.#run.sessionId, detail: describeError(error) });
      if (!this.#over) await this.#again();
    }
  }

  /** Reads again what the engine kept, less what the log has, until the container ends. */
  async #again(): Promise<void> {
    const { clock, log } = this.#services;
    const backoff = new Backoff(AGAIN);
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        for await (const piece of await this.#rest(signal)) await this.#recorder.record(piece);
        if (!this.#over) this.#run.ended();
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof LonglineError && error.reason === 'not_found') return;
        log.debug('output can not be read yet', { sessionId: this.#run.sessionId, detail: describeError(error) });
      }
      await clock.sleep(backoff.next(100), signal).catch(() => undefined);
    }
  }

  async #rest(signal: AbortSignal): Promise<AsyncIterable<OutputPiece>> {
    const { engine, config } = this.#services;
    const { containerId, terminal, startedAtMs } = this.#run;
    const keptBytes = config.keepLogBytes / 2;
    if (this.#recorder.total < keptBytes) {
      const kept = engine.readOutput(containerId, { sinceMs: startedAtMs, follow: true, terminal }, signal);
      return unseen(kept, this.#recorder, keptBytes);
    }
    // The engine has dropped the beginning by now, and with it the place where we were: what is missing is declared.
    const connection = await engine.attachOutput(containerId, terminal, signal);
    this.#connection = connection;
    await this.#recorder.declareLoss();
    return connection.output;
  }

  #failed(error: unknown): void {
    const { sessionId, attempt } = this.#run;
    this.#services.log.warn('the output of a session could not be kept', {
      sessionId,
      attempt,
      detail: describeError(error),
    });
  }
}

// What has to happen by itself as time passes: commands that expired are ended, old jobs and logs go. Every replica may
// run it; what another did already isn't done again. A pass that fails is logged and tried again at the next.
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { Progress } from '../../core/progress.ts';
import type { Bus } from '../bus/bus.ts';
import { jobTopic, sessionsTopic, sessionTopic } from '../bus/topics.ts';
import type { LogStore } from '../logs/log-store.ts';
import type { CommandChange } from '../store/command.ts';
import type { Store } from '../store/store.ts';

const DAY_MS = 86_400_000;

/** How long a request id is remembered, as JobRequest.request_id promises. */
const REQUEST_ID_MS = DAY_MS;

/** Records handled in one transaction. */
const BATCH = 500;

/** How long things are kept and how often that is looked at. */
export interface RetentionOptions {
  /** Ended jobs, from their submission. */
  readonly jobsMs: number;
  /** Ended sessions, from their last change. */
  readonly sessionsMs: number;
  /** Bytes of logs, from the last write. */
  readonly logsMs: number;
  /** Audit checkpoints but the newest of each chain, from when they were stored. */
  readonly checkpointsMs: number;
  /** Jobs in all; beyond that the oldest ended ones go. */
  readonly maxJobs: number;
  /** Bytes of all logs; beyond that those go that were written to longest ago. */
  readonly maxLogBytes: number;
  readonly sweepIntervalMs: number;
  /** How often the two bounds are looked at. */
  readonly boundsIntervalMs: number;
  /** How long after its expiry a command that was sent, but not confirmed, is given up. */
  readonly expiryGraceMs: number;
  readonly expiryIntervalMs: number;
}

/** Jobs and sessions 30 days, logs 14 days, audit checkpoints a year; a million jobs and 64 GiB of logs at most. */
export const DEFAULT_RETENTION: RetentionOptions = {
  jobsMs: 30 * DAY_MS,
  sessionsMs: 30 * DAY_MS,
  logsMs: 14 * DAY_MS,
  checkpointsMs: 365 * DAY_MS,
  maxJobs: 1_000_000,
  maxLogBytes: 64 * 1024 ** 3,
  sweepIntervalMs: 3_600_000,
  boundsIntervalMs: 10_000,
  expiryGraceMs: 60_000,
  expiryIntervalMs: 1000,
};

/** What the sweeper needs. */
export interface SweeperDependencies {
  readonly store: Store;
  readonly logs: LogStore;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Logger;
  /** Read at each pass: a reload may change it. */
  readonly retention: RetentionOptions;
}

/** Tells who waits for the jobs or sessions of these commands. */
export function publishChanges(bus: Bus, changes: readonly CommandChange[]): void {
  for (const { jobId, commandId, sessionId } of changes) {
    if (sessionId === '') bus.publish(jobTopic(jobId), { commandId });
    else publishSession(bus, sessionId);
  }
}

/** Tells who follows a session that it changed. */
export function publishSession(bus: Bus, sessionId: string): void {
  bus.publish(sessionTopic(sessionId), { sessionId });
  bus.publish(sessionsTopic, { sessionId });
}

/** Passes of expiry and retention. Pure of timing; `runSweeper` repeats them. */
export class Sweeper {
  readonly #needs: SweeperDependencies;
  readonly #gotOn: () => void;

  /** @param gotOn called after each of the parts that a pass may have any number of. */
  constructor(needs: SweeperDependencies, gotOn: () => void = () => undefined) {
    this.#needs = needs;
    this.#gotOn = gotOn;
  }

  /** Ends every command that expired. How many. */
  async expire(): Promise<number> {
    const { store, bus, clock, retention } = this.#needs;
    let expired = 0;
    for (;;) {
      const changes = await store.commands.expire(clock.now(), retention.expiryGraceMs, BATCH);
      publishChanges(bus, changes);
      expired += changes.length;
      this.#gotOn();
      if (changes.length < BATCH) return expired;
    }
  }

  /** Removes what is older than it has to be. */
  async retain(signal: AbortSignal): Promise<void> {
    const { store, logs, clock, retention } = this.#needs;
    await store.jobs.forgetRequests(clock.now() - REQUEST_ID_MS);
    await store.sessions.forgetRequests(clock.now() - REQUEST_ID_MS);
    await logs.prune(clock.now() - retention.logsMs, signal, this.#gotOn);
    await this.#forgetSessions(signal);
    await this.#forgetCheckpoints(signal);
    await this.#deleteJobs(() => store.jobs.deleteEnded(clock.now() - retention.jobsMs, BATCH), signal);
  }

  /** Removes the oldest of what is more than may be kept. Cheap where nothing is. */
  async bound(signal: AbortSignal): Promise<void> {
    const { store, logs, retention } = this.#needs;
    await this.#deleteJobs(() => store.jobs.deleteBeyond(retention.maxJobs, BATCH), signal);
    await logs.shrink(retention.maxLogBytes, signal, this.#gotOn);
  }

  async #deleteJobs(deleteSome: () => Promise<number>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const deleted = await deleteSome();
      this.#gotOn();
      await this.#deleteDoomedLogs(signal);
      if (deleted === 0) return;
    }
  }

  async #forgetCheckpoints(signal: AbortSignal): Promise<void> {
    const { store, clock, retention } = this.#needs;
    const before = clock.now() - retention.checkpointsMs;
    while (!signal.aborted && (await store.auditCheckpoints.deleteOld(before, BATCH)) === BATCH) this.#gotOn();
  }

  /** Logs of what is deleted, also those that an earlier process did not come to. */
  async #deleteDoomedLogs(signal: AbortSignal): Promise<void> {
    const { store, logs } = this.#needs;
    while (!signal.aborted) {
      const doomed = await store.jobs.doomedLogs(BATCH);
      if (doomed.length === 0) return;
      const gone: string[] = [];
      let failure: { readonly error: unknown } | undefined;
      for (const id of doomed) {
        // One that can't be removed must not keep the others.
        const kept = await logs.delete(id).catch((error: unknown) => ({ error }));
        if (kept === undefined) gone.push(id);
        else failure ??= kept;
      }
      await store.jobs.logsGone(gone);
      this.#gotOn();
      if (failure !== undefined) throw failure.error;
    }
  }

  async #forgetSessions(signal: AbortSignal): Promise<void> {
    const { store, bus, clock, retention } = this.#needs;
    while (!signal.aborted) {
      const forgotten = await store.sessions.deleteEnded(clock.now() - retention.sessionsMs, BATCH);
      for (const { id } of forgotten) publishSession(bus, id);
      this.#gotOn();
      await this.#deleteDoomedLogs(signal);
      if (forgotten.length === 0) return;
    }
  }
}

/** Longer than ending some of what expired takes; there may be any number of such steps. */
const EXPIRY_LIMIT_MS = 300_000;
/** Longer than a step takes; a pass over millions of jobs and logs, as after `keep` was lowered, may take hours of them. */
const RETENTION_LIMIT_MS = 900_000;

/** Runs passes until the signal aborts. */
export async function runSweeper(needs: SweeperDependencies, progress: Progress, signal: AbortSignal): Promise<void> {
  let gotOn = () => progress.rest();
  const sweeper = new Sweeper(needs, () => gotOn());
  const { clock, log, retention } = needs;
  const attempt = async (what: string, limitMs: number, pass: () => Promise<unknown>): Promise<void> => {
    gotOn = () => progress.expect(limitMs, what);
    gotOn();
    try {
      await pass();
    } catch (error) {
      log.error(`${what} failed; it is tried again`, { err: describeError(error) });
    }
  };
  let nextRetention = clock.monotonic();
  let swept = keptFor(retention);
  let nextBounds = clock.monotonic();
  while (!signal.aborted) {
    await attempt('expiry', EXPIRY_LIMIT_MS, () => sweeper.expire());
    if (clock.monotonic() >= nextRetention || swept !== keptFor(retention)) {
      swept = keptFor(retention);
      await attempt('retention', RETENTION_LIMIT_MS, () => sweeper.retain(signal));
      nextRetention = clock.monotonic() + retention.sweepIntervalMs;
    }
    if (clock.monotonic() >= nextBounds) {
      await attempt('retention', RETENTION_LIMIT_MS, () => sweeper.bound(signal));
      nextBounds = clock.monotonic() + retention.boundsIntervalMs;
    }
    progress.expect(retention.expiryIntervalMs + EXPIRY_LIMIT_MS, 'the next pass');
    await clock.sleep(retention.expiryIntervalMs, signal).catch(() => undefined);
  }
  progress.rest();
}

/** Another text means that other times are asked for, which hold at once. */
function keptFor({ jobsMs, sessionsMs, logsMs, checkpointsMs }: RetentionOptions): string {
  return [jobsMs, sessionsMs, logsMs, checkpointsMs].join(' ');
}

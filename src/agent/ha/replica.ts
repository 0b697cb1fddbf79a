// One replica of an agent: stands by, runs the agent while it leads, and stands by again. The agent is opened anew for each
// term and closed when it is over, as at a stop: what runs outside the process goes on, and the next leader adopts it. It knows
// neither what the agent does nor what the lock is. A replica that doesn't let go in time ends its process: a leader that is
// stuck must not act again.
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { FolderInUse } from '../data-folder.ts';
import type { Election, Term } from './election.ts';
import type { Leadership, LeadershipView } from './leadership.ts';

/** What a replica is made of. */
export interface ReplicaOptions {
  readonly election: Election;
  /** This replica, as others see it. */
  readonly holder: string;
  readonly backend: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Runs the agent until the signal aborts. */
  readonly lead: (leadership: Leadership, signal: AbortSignal) => Promise<void>;
  /** Done now and then while it stands by: credentials must not lapse. May throw. */
  readonly tend: (signal: AbortSignal) => Promise<void>;
  /** Serves what can be told of a standby, until disposed. */
  readonly openStandby: (view: () => LeadershipView) => Promise<AsyncDisposable>;
  /** The last resort. */
  readonly end: () => void;
}

const TEND_EVERY_MS = 10 * 60_000;
/** How long another process may keep the data folder after this one was elected; its lock says when it is over. */
const FOLDER_LIMIT_MS = 10_000;
const FOLDER_RETRY_MS = 100;
/** After a term was lost, an agent that still isn't closed is ended with its process. */
const STAND_DOWN_LIMIT_MS = 20_000;

/** Stands by and leads in turn until the signal aborts. Rejects if the agent can't start. */
export async function runReplica(options: ReplicaOptions, signal: AbortSignal): Promise<void> {
  const { election, log, backend, holder, clock } = options;
  const view = (): LeadershipView => viewOf(election, holder, backend);
  while (!signal.aborted) {
    log.info('this replica stands by', { holder, backend });
    const term = await standBy(options, view, signal).catch((error: unknown) => {
      if (signal.aborted) return undefined;
      throw error;
    });
    if (term === undefined) return;
    let led = false;
    try {
      led = await leadOnce(options, term, view, signal);
    } finally {
      await term.release();
    }
    // Another has its turn before this one tries again.
    if (!led) await clock.sleep(FOLDER_LIMIT_MS, signal).catch(() => undefined);
  }
}

async function standBy(options: ReplicaOptions, view: () => LeadershipView, signal: AbortSignal): Promise<Term> {
  const { election } = options;
  await using _standby = await options.openStandby(view);
  const elected = new AbortController();
  const stop = () => elected.abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  const tending = tendNowAndThen(options, elected.signal);
  try {
    return await election.lead(signal);
  } finally {
    elected.abort();
    signal.removeEventListener('abort', stop);
    await tending;
  }
}

async function tendNowAndThen({ tend, clock, log }: ReplicaOptions, signal: AbortSignal): Promise<void> {
  for (;;) {
    await clock.sleep(TEND_EVERY_MS, signal).catch(() => undefined);
    if (signal.aborted) return;
    await tend(signal).catch((error: unknown) => {
      if (!signal.aborted) log.warn('a standby could not tend its identity', { err: describeError(error) });
    });
  }
}

/** Runs the agent for one term. A term that is lost ends it without a failure. False if it never could begin. */
async function leadOnce(
  options: ReplicaOptions,
  term: Term,
  view: () => LeadershipView,
  signal: AbortSignal,
): Promise<boolean> {
  const { clock, log } = options;
  const stopping = new AbortController();
  const watching = new AbortController();
  const stop = () => stopping.abort(signal.reason);
  const lose = () => {
    stopping.abort(term.signal.reason);
    clock.sleep(STAND_DOWN_LIMIT_MS, watching.signal).then(options.end, () => undefined);
  };
  signal.addEventListener('abort', stop, { once: true });
  term.signal.addEventListener('abort', lose, { once: true });
  if (signal.aborted) stop();
  if (term.signal.aborted) lose();
  try {
    await openWhenFree(options, { epoch: term.epoch, mayAct: () => term.holds(), view }, stopping.signal);
    return true;
  } catch (error) {
    if (error instanceof FolderInUse) {
      log.error('this replica was elected and could not lead', { err: describeError(error) });
      return false;
    }
    if (!stopping.signal.aborted) throw error;
    if (error !== stopping.signal.reason) log.warn('the agent broke off', { err: describeError(error) });
    return true;
  } finally {
    watching.abort();
    signal.removeEventListener('abort', stop);
    term.signal.removeEventListener('abort', lose);
  }
}

/** A leader before this one may still be letting go of a data folder that they share; until it has, nothing is begun. */
async function openWhenFree(
  { lead, clock }: ReplicaOptions,
  leadership: Leadership,
  signal: AbortSignal,
): Promise<void> {
  const endsAtMs = clock.monotonic() + FOLDER_LIMIT_MS;
  for (;;) {
    signal.throwIfAborted();
    try {
      return await lead(leadership, signal);
    } catch (error) {
      if (!(error instanceof FolderInUse) || signal.aborted || clock.monotonic() >= endsAtMs) throw error;
    }
    await clock.sleep(FOLDER_RETRY_MS, signal);
  }
}

function viewOf(election: Election, holder: string, backend: string): LeadershipView {
  const { state } = election;
  const leads = state.kind === 'leading';
  return {
    role: leads ? 'leader' : 'standby',
    epoch: state.highest,
    leader: leads ? holder : (state.leader ?? ''),
    backend,
    problem: election.complaint ?? '',
  };
}

// One replica of an agent: stands by, runs the agent while it leads, and stands by again. The agent is opened anew for each
// term and closed when it is over, as at a stop: what runs outside the process goes on, and the next leader adopts it. It knows
// neither what the agent does nor what the lock is. A replica that doesn't let go in time ends its process: a leader that is
// stuck must not act again.

import { Backoff } from '../../core/backoff.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError, type LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { FolderInUse } from '../data-folder.ts';
import type { Election, Term } from './election.ts';
import type { Leadership, LeadershipView } from './leadership.ts';
import { Reception, type Resignation } from './reception.ts';

/** What a replica is made of. */
export interface ReplicaOptions {
  readonly election: Election;
  /** This replica, as others see it. */
  readonly holder: string;
  readonly backend: string;
  /** What is told of it. */
  readonly view: () => LeadershipView;
  readonly clock: Clock;
  readonly log: Logger;
  /** Runs the agent until the signal aborts. */
  readonly lead: (leadership: Leadership, signal: AbortSignal) => Promise<void>;
  /** Done now and then while it stands by: credentials must not lapse. Gives when it is due again, milliseconds from now. May throw. */
  readonly tend: (signal: AbortSignal) => Promise<number | undefined>;
  /** Hears that it stands by from now on. */
  readonly onStandby: () => void;
  /** Another process keeps the data folder: ends it, if it is one that led before and can't let go. Until the signal aborts; must not throw. */
  readonly freeFolder: (leadership: Leadership, signal: AbortSignal) => Promise<void>;
  /** The last resort. */
  readonly end: () => void;
}

/** Between two looks at its identity, unless it is due sooner. */
const TEND_EVERY_MS = 10 * 60_000;
const TEND_SOON_MS = 5_000;
const TEND_SHORTEST_MS = 1_000;
/** How long another process may keep the data folder after this one was elected; its lock says when it is over. */
const FOLDER_LIMIT_MS = 10_000;
const FOLDER_RETRY_MS = 100;
/** After a term was lost or given up, an agent that still isn't closed is ended with its process. */
const STAND_DOWN_LIMIT_MS = 20_000;

/** Stands by and leads in turn until the signal aborts. Rejects if the agent can't start. */
export async function runReplica(options: ReplicaOptions, signal: AbortSignal): Promise<void> {
  const { election, log, backend, holder } = options;
  const reception = new Reception();
  let end: TermEnd = NOTHING_SPECIAL;
  while (!signal.aborted) {
    log.info('this replica stands by', { holder, backend });
    const term = await standBy(options, end.pauseMs, signal).catch((error: unknown) => {
      if (signal.aborted) return undefined;
      throw error;
    });
    if (term === undefined) return;
    try {
      end = await leadOnce(options, { term, reception }, signal);
    } finally {
      await term.release();
    }
    if (end.floor === undefined) continue;
    await election.raise(end.floor).catch((error: unknown) => {
      log.warn('an epoch that the controller knows of could not be kept', { err: describeError(error) });
    });
  }
}

/** What a term leaves to be done. */
interface TermEnd {
  /** How long others have their turn before this replica tries again. */
  readonly pauseMs: number;
  /** Epochs up to this one are over. */
  readonly floor?: bigint | undefined;
}

const NOTHING_SPECIAL: TermEnd = { pauseMs: 0 };

async function standBy(options: ReplicaOptions, pauseMs: number, signal: AbortSignal): Promise<Term> {
  const { election, clock, onStandby } = options;
  onStandby();
  const elected = new AbortController();
  const stop = () => elected.abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  const tending = tendNowAndThen(options, elected.signal);
  try {
    await clock.sleep(pauseMs, signal);
    return await election.lead(signal);
  } finally {
    elected.abort();
    signal.removeEventListener('abort', stop);
    await tending;
  }
}

async function tendNowAndThen({ tend, clock, log }: ReplicaOptions, signal: AbortSignal): Promise<void> {
  const backoff = new Backoff({ baseMs: TEND_SOON_MS, capMs: TEND_EVERY_MS });
  let waitMs = TEND_SOON_MS;
  for (;;) {
    await clock.sleep(waitMs, signal).catch(() => undefined);
    if (signal.aborted) return;
    try {
      const dueInMs = (await tend(signal)) ?? TEND_EVERY_MS;
      waitMs = Math.min(Math.max(dueInMs, TEND_SHORTEST_MS), TEND_EVERY_MS);
      backoff.reset();
    } catch (error) {
      // Whoever has a folder that replicas share sees to the identity in it.
      waitMs = error instanceof FolderInUse ? TEND_EVERY_MS : backoff.next(TEND_SHORTEST_MS);
      if (signal.aborted || error instanceof FolderInUse) continue;
      log.warn('a standby could not tend its identity; it tries again', { err: describeError(error), waitMs });
    }
  }
}

/** What a term is led with. */
interface Turn {
  readonly term: Term;
  readonly reception: Reception;
}

/** Runs the agent for one term. A term that is lost or given up ends it without a failure. */
async function leadOnce(options: ReplicaOptions, { term, reception }: Turn, signal: AbortSignal): Promise<TermEnd> {
  const { clock, log, view } = options;
  const stopping = new AbortController();
  const watching = new AbortController();
  const stop = () => stopping.abort(signal.reason);
  const standDown = (why: unknown) => {
    stopping.abort(why);
    clock.sleep(STAND_DOWN_LIMIT_MS, watching.signal).then(options.end, () => undefined);
  };
  const lose = () => standDown(term.signal.reason);
  let resignation: Resignation | undefined;
  const refused = (error: LonglineError) => {
    if (stopping.signal.aborted) return;
    resignation = reception.refused(error, term.epoch, clock.monotonic());
    if (resignation === undefined) return;
    log.warn('this replica gives up the lead', { epoch: String(term.epoch), err: error.message });
    standDown(resignation.why);
  };
  signal.addEventListener('abort', stop, { once: true });
  term.signal.addEventListener('abort', lose, { once: true });
  if (signal.aborted) stop();
  if (term.signal.aborted) lose();
  reception.began();
  const heard = { welcomed: () => reception.welcomed(), refused };
  try {
    const leadership = { epoch: term.epoch, mayAct: () => term.holds(), reception: heard, view };
    await openWhenFree(options, leadership, stopping.signal);
  } catch (error) {
    if (error instanceof FolderInUse) {
      log.error('this replica was elected and could not lead', { err: describeError(error) });
      return { pauseMs: FOLDER_LIMIT_MS };
    }
    if (!stopping.signal.aborted) throw error;
    if (error !== stopping.signal.reason) log.warn('the agent broke off', { err: describeError(error) });
  } finally {
    watching.abort();
    signal.removeEventListener('abort', stop);
    term.signal.removeEventListener('abort', lose);
  }
  return resignation ?? NOTHING_SPECIAL;
}

/** A leader before this one may still be letting go of a data folder that they share; until it has, nothing is begun. */
async function openWhenFree(
  { lead, clock, freeFolder }: ReplicaOptions,
  leadership: Leadership,
  signal: AbortSignal,
): Promise<void> {
  const endsAtMs = clock.monotonic() + FOLDER_LIMIT_MS;
  const over = new AbortController();
  const stop = () => over.abort();
  signal.addEventListener('abort', stop, { once: true });
  let freeing: Promise<void> | undefined;
  try {
    for (;;) {
      signal.throwIfAborted();
      try {
        return await lead(leadership, signal);
      } catch (error) {
        if (!(error instanceof FolderInUse) || signal.aborted || clock.monotonic() >= endsAtMs) throw error;
      }
      freeing ??= freeFolder(leadership, over.signal);
      await clock.sleep(FOLDER_RETRY_MS, signal);
    }
  } finally {
    over.abort();
    signal.removeEventListener('abort', stop);
    await freeing;
  }
}

/** What is told of a replica's part in an election. */
export function viewOf(election: Election, holder: string, backend: string): LeadershipView {
  const { state, tally } = election;
  const leads = state.kind === 'leading';
  return {
    role: leads ? 'leader' : 'standby',
    epoch: state.highest,
    leader: leads ? holder : (state.leader ?? ''),
    backend,
    problem: election.complaint ?? '',
    problemMs: election.complaint === undefined ? 0 : (tally.failingMs ?? 0),
    asked: leads || tally.answeredAgoMs !== undefined,
    roleMs: tally.roleMs,
  };
}

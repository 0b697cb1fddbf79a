// Exit codes of the command line: documented, stable, and the same for every command.
import type { Reason } from '../core/errors.ts';

/** What an exit code of `longline` means. `job run` passes the job's own code through instead; see job-exit.ts. */
export const EXIT = {
  ok: 0,
  /** The command was understood and could not be done. */
  failed: 1,
  /** The command line or a value in it is wrong. */
  usage: 2,
  /** The thing named doesn't exist. */
  notFound: 3,
  /** Not allowed, or not known who asks. */
  denied: 4,
  /** The controller, agent or engine can't be reached. */
  unavailable: 5,
  /** A time limit passed. */
  timeout: 124,
  /** Ended by Ctrl-C, or by SIGTERM in order. */
  interrupted: 130,
  /** Ended by a second SIGTERM, before all was in order. */
  terminated: 143,
  /** Whoever read the output has left. */
  outputClosed: 141,
} as const;

const BY_REASON: Readonly<Record<Reason, number>> = {
  invalid: EXIT.usage,
  not_found: EXIT.notFound,
  already_exists: EXIT.failed,
  wrong_state: EXIT.failed,
  stale: EXIT.failed,
  limit: EXIT.failed,
  unavailable: EXIT.unavailable,
  late: EXIT.timeout,
  cancelled: EXIT.interrupted,
  policy: EXIT.denied,
  identity: EXIT.denied,
  unsupported: EXIT.failed,
  internal: EXIT.failed,
};

/** The exit code that tells of an error of this reason. */
export function exitCodeOf(reason: Reason): number {
  return BY_REASON[reason];
}

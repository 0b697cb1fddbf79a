// How a program of the system is run: what goes in, what comes out. The agent hands the runner in, so that adapters for one
// outside system need not know how processes are started, and can be held to the exact bytes that they send.

/** A program to run. */
export interface Command {
  /** Name or path, and arguments; never through a shell. */
  readonly argv: readonly [string, ...string[]];
  /** Whole input. The program gets all of it or isn't started, whatever happens to this process meanwhile. */
  readonly stdin?: string;
  /** Default 30 s; then it is killed. */
  readonly timeoutMs?: number;
}

/** How it ended. */
export interface CommandResult {
  /** Exit code. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program in a fixed small environment, with messages in English. Rejects with `unsupported` if there is no such
 * program, `late` if it took too long, `limit` if it said too much, `cancelled` if the signal aborts; whatever it did by
 * then stays done. An exit code is no error.
 */
export type RunCommand = (command: Command, signal?: AbortSignal) => Promise<CommandResult>;

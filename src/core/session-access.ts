// How others of the agent get into a session: tunnels and terminals. The sessions capability implements it; whoever
// carries the bytes sees nothing else of it.

/** Where a session can be reached from this host. True while the session runs: ask again after it was woken. */
export interface SessionEndpoint {
  readonly containerId: string;
  /** IP addresses of its container on its networks; empty where it has none, or the engine is on another host. */
  readonly addresses: readonly string[];
  /** Its main process, in whose network namespace everything it listens on is found; undefined if it can't be seen from here. */
  readonly pid: number | undefined;
  /** Ports that it offers for tunnels; no other may be dialled. */
  readonly ports: readonly number[];
}

/** Bytes from a terminal or command. A terminal has one stream, "stdout". */
export interface TerminalPiece {
  readonly stream: 'stdout' | 'stderr';
  /** May be a view into a larger buffer; copy it to keep it. */
  readonly data: Uint8Array;
}

/** A process inside a session, or its main process, with its streams. The owner must destroy it. */
export interface SessionTerminal {
  /** Ends when the output ends; throws LonglineError `unavailable` if the connection broke. One reader. */
  readonly output: AsyncIterable<TerminalPiece>;
  /** Resolves when the engine took the bytes. Rejects with `wrong_state` if the input is closed. */
  write(data: Uint8Array): Promise<void>;
  /** Closes the input. */
  end(): Promise<void>;
  /** Sets the size of a terminal; ignored where there is none. */
  resize(columns: number, rows: number): Promise<void>;
  /** Sends a signal such as "SIGINT" to the process of a command. `unsupported` where it can't be reached. */
  signal(name: string): Promise<void>;
  /** Exit code of the process, once the output has ended; undefined if it goes on or can't be known. */
  exitCode(): Promise<number | undefined>;
  /** Lets go of the connection. Idempotent. An attached main process goes on. */
  destroy(): void;
}

/** A command to run inside a session. */
export interface SessionCommand {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Empty takes the session's. */
  readonly user: string;
  /** Empty takes the session's. */
  readonly workingDir: string;
  readonly terminal: boolean;
  /** First size of the terminal; undefined leaves it to the engine. */
  readonly size: { readonly columns: number; readonly rows: number } | undefined;
}

/** Somebody who uses a session: counts as activity, which keeps it from being hibernated for idleness. Dispose to leave. */
export interface SessionVisit extends Disposable {
  readonly endpoint: SessionEndpoint;
  /** It slept and was woken for this visit. */
  readonly woken: boolean;
  /** Bytes went through. Cheap. If the session was paused meanwhile, it is woken. */
  touch(inBytes: number, outBytes: number): void;
  /** Runs a command inside. */
  execute(command: SessionCommand, signal: AbortSignal): Promise<SessionTerminal>;
  /** Connects to the main process. Its input, if it takes any and `withInput` is true. */
  attachMain(withInput: boolean, signal: AbortSignal): Promise<SessionTerminal>;
}

/** What a visitor wants. */
export interface VisitOptions {
  /** Checked against the ports that the session offers, if given. */
  readonly port?: number;
  /** True to wake a session that sleeps; else it is refused as `wrong_state`. */
  readonly wake: boolean;
}

/** What a session is made from, as far as it decides who may do what in it. */
export interface SessionFacts {
  readonly image: string;
  /** Empty for the image's own. */
  readonly user: string;
}

/**
 * The way into sessions. Errors: `not_found` for an unknown session, `wrong_state` with the present state for one that
 * sleeps or can't be woken, `policy` for a port it doesn't offer, what the wake failed with otherwise.
 */
export interface SessionAccess {
  /** Undefined for one that isn't here. */
  facts(sessionId: string): SessionFacts | undefined;
  /** Wakes the session if it sleeps and waits until it is ready. */
  visit(sessionId: string, options: VisitOptions, signal: AbortSignal): Promise<SessionVisit>;
}

// Where output is kept: append-only logs with one byte offset space per stream name. The log store knows nothing of
// agents, streams on the wire or jobs. What append accepted survives the process; what sync covered survives the host.
// Wrong input (a hole that isn't declared, a bad CRC) is refused whole as `invalid` and changes nothing; a full disk is
// `limit`; a damaged tail is cut back to the last good record when a log is opened.
import type { LogChunk, LogClose, LogGap } from '#gen/longline/v1/log_pb.js';

/** Names a log. Each attempt has its own offsets. */
export interface LogKey {
  /** 1 to 128 characters of [A-Za-z0-9._-]. */
  readonly logId: string;
  /** From 1. */
  readonly attempt: number;
}

/** A part of a log, in the order it was captured. */
export type LogPart =
  | { readonly case: 'chunk'; readonly value: LogChunk }
  | { readonly case: 'gap'; readonly value: LogGap }
  | { readonly case: 'close'; readonly value: LogClose };

/** Bytes and gaps to be added, as LogBatch carries them. */
export interface LogAppend {
  readonly chunks: readonly LogChunk[];
  readonly gaps: readonly LogGap[];
}

/** One log, for writing. Release it when done; it isn't to be used after that. */
export interface LogWriter {
  /** Length per stream name of what is durable: where the sender goes on. */
  durableOffsets(): ReadonlyMap<string, number>;
  readonly closed: boolean;
  /** Adds what is new of it; what is there already is dropped. True if anything was added. Readers see it at once. */
  append(batch: LogAppend): Promise<boolean>;
  /** Resolves once everything appended before is on disk. Concurrent calls share a sync. */
  sync(): Promise<void>;
  /**
   * Checks lengths and digests and closes for good, durably. If they disagree it throws `invalid` and the log is taken
   * anew from offset 0: what it holds stays readable until the first byte of the new sending arrives.
   */
  close(close: LogClose): Promise<void>;
  release(): void;
}

/** A place in a log from which parts are read. Holds no file open between reads. */
export interface LogCursor {
  /** Parts stored by now, about 256 KiB at most; empty if there is nothing new. Ends with the close, if there is one. */
  read(): Promise<readonly LogPart[]>;
  /** True once the close was given. */
  readonly ended: boolean;
}

/** Where to begin and what to leave out. */
export interface LogRange {
  /** First byte wanted by stream name; 0 for streams that aren't named. */
  readonly from: ReadonlyMap<string, number>;
  /** Streams wanted; empty for all. */
  readonly streams: ReadonlySet<string>;
}

/** All logs. Disposing syncs and closes them. */
export interface LogStore extends AsyncDisposable {
  /** Opens a log for writing, creating it if it isn't there. */
  writer(key: LogKey): Promise<LogWriter>;
  /** Undefined if there is no such log. O(log n) in the length of the log. */
  cursor(key: LogKey, range: LogRange): Promise<LogCursor | undefined>;
  /** Highest attempt that has a log; undefined if there is none. */
  latestAttempt(logId: string): Promise<number | undefined>;
  /** Removes every attempt of a log. */
  delete(logId: string): Promise<void>;
  /** Replaces the bytes of logs untouched since `beforeMs` by declared gaps. How many logs that were. `looked` is called after each. */
  prune(beforeMs: number, signal?: AbortSignal, looked?: () => void): Promise<number>;
  /**
   * As `prune`, for logs written to longest ago, until all logs together take no more than `maxBytes`. Logs in use stay. Cheap
   * as long as not enough was appended to make it necessary.
   */
  shrink(maxBytes: number, signal?: AbortSignal, looked?: () => void): Promise<number>;
}

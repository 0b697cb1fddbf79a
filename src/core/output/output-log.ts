// Output of containers on its way to a durable log: what producers of all kinds hand over, and what a log promises them.

/** Output stream of a container. */
export type StreamName = 'stdout' | 'stderr';

/** A run of bytes as the engine delivered it. `data` may be a view into a larger buffer; copy it to keep it. */
export interface OutputPiece {
  readonly stream: StreamName;
  readonly data: Uint8Array;
}

/** Why bytes are missing; the names are those of longline.v1.GapReason. */
export type GapReason = 'output_limit' | 'spool_full' | 'corrupt' | 'unrecoverable';

/** What became of one stream. */
export interface ClosedStream {
  readonly stream: StreamName;
  readonly lengthBytes: number;
  readonly gapBytes: number;
}

/** Durable log of one execution. */
export interface OutputLog {
  /** Bytes of a stream that are safe or declared lost: where a recovery goes on. */
  length(stream: StreamName): number;
  /** Appends. Resolves when there is room for more; the bytes may be reused after that. Order is kept across streams. */
  append(piece: OutputPiece, capturedAtMs: number): Promise<void>;
  /** Declares the next `bytes` of a stream as lost. */
  gap(stream: StreamName, bytes: number, reason: GapReason): Promise<void>;
  /** Makes everything durable and closes the log for good. Idempotent. */
  close(): Promise<readonly ClosedStream[]>;
}

// One log on one Logs stream: where the controller stands, what is under way, and what comes next.
import { create } from '@bufbuild/protobuf';
import { LogEndSchema, type LogOpen, LogOpenSchema, type LogsRequest } from '#gen/longline/link/v1/link_pb.js';
import { GapReason, LogCloseSchema, LogGapSchema } from '#gen/longline/v1/log_pb.js';
import { encodeLogBatch } from './log-batch-codec.ts';
import { LogCursor } from './log-cursor.ts';
import type { SpoolGapReason, StreamSummary } from './spool-record.ts';
import type { SpooledLog } from './spooled-log.ts';

const GAP_REASONS: Readonly<Record<SpoolGapReason, GapReason>> = {
  output_limit: GapReason.OUTPUT_LIMIT,
  spool_full: GapReason.SPOOL_FULL,
  corrupt: GapReason.CORRUPT,
  unrecoverable: GapReason.UNRECOVERABLE,
};

/** A message for the stream, or one that is encoded already. */
export type ShipmentMessage = LogsRequest['message'] | Uint8Array;

type Phase =
  /** LogOpen is on its way; the controller hasn't said where it stands. */
  | { readonly kind: 'opening' }
  /** Data is read and sent. */
  | { readonly kind: 'streaming'; readonly cursor: LogCursor }
  /** LogEnd was sent. */
  | { readonly kind: 'ending'; readonly cursor: LogCursor }
  /** The controller has the close already: nothing is sent, and the files go when the producer is done. */
  | { readonly kind: 'stored' };

/** Made when a log is opened on a stream. The owner disposes it. */
export class Shipment {
  readonly handle: number;
  readonly log: SpooledLog;
  #phase: Phase = { kind: 'opening' };
  /** Data sent and not acknowledged, per stream, in order. */
  readonly #underWay = new Map<string, { end: number; bytes: number }[]>();
  #unacknowledgedBytes = 0;
  #sentBytes = 0;
  #resends = 0;

  constructor(handle: number, log: SpooledLog) {
    this.handle = handle;
    this.log = log;
  }

  /** How often the log was begun anew on this stream. */
  get resends(): number {
    return this.#resends;
  }

  get ending(): boolean {
    return this.#phase.kind === 'ending';
  }

  /** True when the controller has everything and the producer is done. */
  get finished(): boolean {
    return this.#phase.kind === 'stored' && this.log.summary !== undefined;
  }

  get unacknowledgedBytes(): number {
    return this.#unacknowledgedBytes;
  }

  openMessage(): LogOpen {
    const { id, attempt, kind } = this.log.name;
    return create(LogOpenSchema, { handle: this.handle, logId: id, attempt, kind });
  }

  /** The controller said where it stands. Gives the bytes that are no longer under way. */
  resumed(offsets: Readonly<Record<string, bigint>>, closed: boolean): number {
    if (this.#phase.kind !== 'opening') return 0;
    const positions = numbers(offsets);
    this.log.acknowledge(positions);
    this.#phase = closed ? { kind: 'stored' } : { kind: 'streaming', cursor: this.#cursor(positions) };
    return 0;
  }

  /** The controller stored up to here. Gives the bytes that are no longer under way. */
  acknowledged(offsets: Readonly<Record<string, bigint>>): number {
    const stored = numbers(offsets);
    this.log.acknowledge(stored);
    let bytes = 0;
    for (const [stream, offset] of stored) {
      const waiting = this.#underWay.get(stream);
      while (waiting?.[0] !== undefined && waiting[0].end <= offset) bytes += waiting.shift()!.bytes;
    }
    this.#unacknowledgedBytes -= bytes;
    return bytes;
  }

  /** Begins again from the first byte. Gives the bytes that are no longer under way. */
  async restart(): Promise<number> {
    const bytes = this.#unacknowledgedBytes;
    await this.dispose();
    this.#underWay.clear();
    this.#unacknowledgedBytes = 0;
    this.#resends += 1;
    this.log.acknowledge(new Map([...this.log.writtenLengths().keys()].map((stream) => [stream, 0])));
    this.#phase = { kind: 'streaming', cursor: this.#cursor(new Map()) };
    return bytes;
  }

  /** The next batch of about `maxBytes` (0: no data now), or the end; undefined if there is nothing to send. */
  async next(maxBytes: number): Promise<ShipmentMessage | undefined> {
    if (this.#phase.kind !== 'streaming') return undefined;
    const { cursor } = this.#phase;
    if (maxBytes === 0) return undefined;
    const batch = await cursor.next(maxBytes);
    if (batch === undefined) return this.#endMessage(cursor);
    for (const { stream, offset, data } of batch.chunks) {
      const waiting = this.#underWay.get(stream) ?? [];
      waiting.push({ end: offset + data.length, bytes: data.length });
      this.#underWay.set(stream, waiting);
    }
    this.#unacknowledgedBytes += batch.dataBytes;
    this.#sentBytes += batch.dataBytes;
    const gaps = batch.gaps.map(({ stream, from, to, reason }) =>
      create(LogGapSchema, { stream, from: BigInt(from), to: BigInt(to), reason: GAP_REASONS[reason] }),
    );
    return encodeLogBatch(this.handle, batch.chunks, gaps);
  }

  /** Data bytes given out by `next` since the last call. */
  takeSentBytes(): number {
    const bytes = this.#sentBytes;
    this.#sentBytes = 0;
    return bytes;
  }

  async dispose(): Promise<void> {
    if (this.#phase.kind === 'streaming' || this.#phase.kind === 'ending') {
      await this.#phase.cursor[Symbol.asyncDispose]();
    }
  }

  #cursor(from: ReadonlyMap<string, number>): LogCursor {
    return new LogCursor(this.log, from, this.log.fresh);
  }

  async #endMessage(cursor: LogCursor): Promise<ShipmentMessage | undefined> {
    const { summary } = this.log;
    if (summary === undefined) return undefined;
    // The close may have been written between the cursor's look and this one.
    const behind = [...this.log.writtenLengths()].some(
      ([stream, length]) => length > (cursor.positions.get(stream) ?? 0),
    );
    if (behind) return this.next(1);
    const streams = cursor.damaged ? await this.log.resummarize() : summary;
    this.#phase = { kind: 'ending', cursor };
    return {
      case: 'end',
      value: create(LogEndSchema, { handle: this.handle, close: create(LogCloseSchema, { streams: ends(streams) }) }),
    };
  }
}

function ends(streams: readonly StreamSummary[]) {
  return streams.map(({ stream, lengthBytes, gapBytes, sha256 }) => ({
    stream,
    length: BigInt(lengthBytes),
    gapBytes: BigInt(gapBytes),
    sha256: Uint8Array.from(Buffer.from(sha256, 'hex')),
  }));
}

function numbers(offsets: Readonly<Record<string, bigint>>): Map<string, number> {
  return new Map(Object.entries(offsets).map(([stream, offset]) => [stream, Number(offset)]));
}

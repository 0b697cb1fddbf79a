// Form of the records in a spool segment. Pure.
import { crc32c, joinCrc32c } from '../core/crc32c.ts';
import { type DecodedRecord, encodeRecord, RECORD_HEADER_BYTES } from '../core/record-codec.ts';

/** Record types of a segment. Numbers are on disk: never reuse one. */
export const SPOOL_RECORD = { head: 1, chunk: 2, gap: 3, close: 4 } as const;

/** Why bytes are missing; the names are those of longline.v1.GapReason. */
export type SpoolGapReason = 'output_limit' | 'spool_full' | 'corrupt' | 'unrecoverable';

/** A run of bytes. `data` is a view that stays valid as long as it is held. */
export interface SpoolChunk {
  readonly stream: string;
  readonly offset: number;
  readonly capturedAtMs: number;
  readonly crc32c: number;
  readonly data: Uint8Array;
}

/** Bytes [from, to) that are lost. */
export interface SpoolGap {
  readonly stream: string;
  readonly from: number;
  readonly to: number;
  readonly reason: SpoolGapReason;
}

/** First record of every segment: whose it is, and where each stream stands at its start. */
export interface SegmentHead {
  readonly logId: string;
  readonly kind: string;
  readonly attempt: number;
  /** Length of each stream, gaps included. */
  readonly streams: Readonly<Record<string, number>>;
}

/** How a stream ended. `sha256` (hex) covers the bytes that were kept, in order. */
export interface StreamSummary {
  readonly stream: string;
  /** Bytes, gaps included. */
  readonly lengthBytes: number;
  readonly gapBytes: number;
  readonly sha256: string;
}

/** Most data bytes in one chunk: with its framing it fills 64 KiB, what longline.v1.LogChunk allows for the data alone. */
export const MAX_CHUNK_BYTES = 63 * 1024;

/** Room that a chunk begins with: little for a line now and then. */
const FIRST_CAPACITY_BYTES = 4096;
/** Offset, capture time, CRC. */
const FIXED_BYTES = 20;

/** Collects adjacent bytes of one stream straight into the frame that will be written. A SpoolChunk once it is sealed. */
export class ChunkBuilder implements SpoolChunk {
  readonly stream: string;
  readonly offset: number;
  readonly capturedAtMs: number;
  readonly #dataStart: number;
  #frame: Buffer;
  #used: number;
  #crc32c = 0;

  /** @param expectedBytes how much data is likely to come: it is then collected without moving it. */
  constructor(stream: string, offset: number, capturedAtMs: number, expectedBytes: number) {
    this.stream = stream;
    this.offset = offset;
    this.capturedAtMs = capturedAtMs;
    this.#dataStart = RECORD_HEADER_BYTES + FIXED_BYTES + 1 + Buffer.byteLength(stream);
    const capacity = Math.max(FIRST_CAPACITY_BYTES, Math.min(expectedBytes, MAX_CHUNK_BYTES));
    this.#frame = Buffer.allocUnsafe(this.#dataStart + capacity);
    this.#used = this.#dataStart;
  }

  get dataBytes(): number {
    return this.#used - this.#dataStart;
  }

  /** The bytes collected so far, in place. */
  get data(): Uint8Array {
    return this.#frame.subarray(this.#dataStart, this.#used);
  }

  /** Of the data; 0 until it is sealed. */
  get crc32c(): number {
    return this.#crc32c;
  }

  /** Copies as much of `data` as fits and gives how much that was. */
  add(data: Uint8Array): number {
    const count = Math.min(MAX_CHUNK_BYTES - this.dataBytes, data.length);
    const needBytes = this.#used + count;
    if (needBytes > this.#frame.length) {
      const capacity = Math.min(Math.max(needBytes, this.#frame.length * 4), this.#dataStart + MAX_CHUNK_BYTES);
      const grown = Buffer.allocUnsafe(capacity);
      this.#frame.copy(grown, 0, 0, this.#used);
      this.#frame = grown;
    }
    this.#frame.set(count === data.length ? data : data.subarray(0, count), this.#used);
    this.#used = needBytes;
    return count;
  }

  /** The finished frame. Nothing may be added after that. */
  seal(): Buffer {
    const frame = this.#frame.subarray(0, this.#used);
    frame.writeUInt32LE(this.#used - RECORD_HEADER_BYTES, 0);
    frame.writeUInt8(SPOOL_RECORD.chunk, 8);
    let at = frame.writeDoubleLE(this.offset, RECORD_HEADER_BYTES);
    at = frame.writeDoubleLE(this.capturedAtMs, at);
    this.#crc32c = crc32c(this.data);
    at = frame.writeUInt32LE(this.#crc32c, at);
    at = frame.writeUInt8(this.#dataStart - at - 1, at);
    frame.write(this.stream, at);
    const before = crc32c(frame.subarray(8, this.#dataStart));
    frame.writeUInt32LE(joinCrc32c(before, this.#crc32c, this.dataBytes), 4);
    return frame;
  }
}

/** Decodes a chunk record. */
export function decodeChunk(record: DecodedRecord): SpoolChunk {
  const body = viewOf(record.body);
  const nameBytes = body.readUInt8(FIXED_BYTES);
  const dataStart = FIXED_BYTES + 1 + nameBytes;
  return {
    stream: body.toString('utf8', FIXED_BYTES + 1, dataStart),
    offset: body.readDoubleLE(0),
    capturedAtMs: body.readDoubleLE(8),
    crc32c: body.readUInt32LE(16),
    data: body.subarray(dataStart),
  };
}

/** Frames a head, gap or close. */
export function encodeSpoolFact(
  type: (typeof SPOOL_RECORD)['head' | 'gap' | 'close'],
  fact: SegmentHead | SpoolGap | readonly StreamSummary[],
): Buffer {
  return encodeRecord(type, Buffer.from(JSON.stringify(fact)));
}

/** Decodes a head, gap or close. */
export function decodeSpoolFact<T>(record: DecodedRecord): T {
  return JSON.parse(viewOf(record.body).toString('utf8')) as T;
}

function viewOf(body: Uint8Array): Buffer {
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

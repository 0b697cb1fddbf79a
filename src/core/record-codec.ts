// Framing of append-only files (journal, spool, log segments): little-endian u32 length, u32 CRC-32C of type and
// body, u8 type, body. A torn or damaged tail is found by length and CRC; what lies before it is good. Pure: no I/O.
import { crc32c, joinCrc32c } from './crc32c.ts';
import { LonglineError } from './errors.ts';

/** Bytes before a record's body. */
export const RECORD_HEADER_BYTES = 9;

/** Longest body that is taken for real; a longer length field means damage. */
export const MAX_RECORD_BYTES = 16 * 1024 * 1024;

/** A decoded record. `body` is a view into the buffer it was read from. */
export interface DecodedRecord {
  readonly type: number;
  readonly body: Uint8Array;
  /** Offset of the record's first byte in the buffer. */
  readonly start: number;
  /** Offset after its last byte. */
  readonly end: number;
}

/** Frames one record. `type` is 0 to 255. Throws `limit` for a body that would be taken for damage when it is read. */
export function encodeRecord(type: number, body: Uint8Array): Buffer {
  checkSize(body.length);
  const frame = Buffer.allocUnsafe(RECORD_HEADER_BYTES + body.length);
  frame.writeUInt32LE(body.length, 0);
  frame.writeUInt8(type, 8);
  frame.set(body, RECORD_HEADER_BYTES);
  frame.writeUInt32LE(crc32c(frame.subarray(8)), 4);
  return frame;
}

/**
 * The header of a record whose body is written from where it lies, and of which the CRC is known. Throws `limit` as
 * `encodeRecord` does.
 */
export function encodeRecordHeader(type: number, bodyBytes: number, bodyCrc32c: number): Buffer {
  checkSize(bodyBytes);
  const header = Buffer.allocUnsafe(RECORD_HEADER_BYTES);
  header.writeUInt32LE(bodyBytes, 0);
  header.writeUInt8(type, 8);
  header.writeUInt32LE(joinCrc32c(crc32c(header.subarray(8)), bodyCrc32c, bodyBytes), 4);
  return header;
}

function checkSize(bodyBytes: number): void {
  if (bodyBytes <= MAX_RECORD_BYTES) return;
  throw new LonglineError('limit', `a record of ${bodyBytes} bytes; at most ${MAX_RECORD_BYTES} are kept`, {
    retryable: false,
  });
}

/** Result of looking for a record at an offset. */
export type RecordLookup =
  /** A whole, undamaged record. */
  | { readonly kind: 'record'; readonly record: DecodedRecord }
  /** The buffer ends before the record does. */
  | { readonly kind: 'incomplete'; readonly needBytes: number }
  /** Length or CRC is wrong. */
  | { readonly kind: 'damaged' };

/** Looks for a record at `offset` of `buffer`. */
export function decodeRecord(buffer: Buffer, offset: number): RecordLookup {
  if (buffer.length - offset < RECORD_HEADER_BYTES) {
    return { kind: 'incomplete', needBytes: RECORD_HEADER_BYTES };
  }
  const length = buffer.readUInt32LE(offset);
  if (length > MAX_RECORD_BYTES) return { kind: 'damaged' };
  const end = offset + RECORD_HEADER_BYTES + length;
  if (buffer.length < end) return { kind: 'incomplete', needBytes: RECORD_HEADER_BYTES + length };
  if (crc32c(buffer.subarray(offset + 8, end)) !== buffer.readUInt32LE(offset + 4)) return { kind: 'damaged' };
  const body = buffer.subarray(offset + RECORD_HEADER_BYTES, end);
  return { kind: 'record', record: { type: buffer.readUInt8(offset + 8), body, start: offset, end } };
}

// Records of a segment: the parts of a log as the Protobuf messages that carried them, in the framing of core.
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { LogChunkSchema, LogCloseSchema, LogGapSchema } from '#gen/longline/v1/log_pb.js';
import { crc32c, joinCrc32c } from '../../core/crc32c.ts';
import { type DecodedRecord, encodeRecord, encodeRecordHeader } from '../../core/record-codec.ts';
import { bytesOfChunk } from './chunk-bytes.ts';
import type { LogPart } from './log-store.ts';

const CHUNK = 1;
const GAP = 2;
const CLOSE = 3;
const REFUSED = 4;

/** What a record says: a part, or that the log is to be taken anew because its close didn't agree. */
export type LogRecord = LogPart | { readonly case: 'refused' };

/** Frames a record. */
export function encodeLogRecord(record: LogRecord): Buffer {
  switch (record.case) {
    case 'chunk':
      return encodeRecord(CHUNK, toBinary(LogChunkSchema, record.value));
    case 'gap':
      return encodeRecord(GAP, toBinary(LogGapSchema, record.value));
    case 'close':
      return encodeRecord(CLOSE, toBinary(LogCloseSchema, record.value));
    case 'refused':
      return encodeRecord(REFUSED, new Uint8Array());
  }
}

/** A record as pieces that are to be written one behind the other; a chunk that came from a sender isn't copied. */
export function frameLogRecord(record: LogRecord): readonly Uint8Array[] {
  const bytes = record.case === 'chunk' ? bytesOfChunk(record.value) : undefined;
  if (record.case !== 'chunk' || bytes === undefined) return [encodeLogRecord(record)];
  const { data, crc32c: dataCrc32c } = record.value;
  const before = crc32c(bytes.subarray(0, bytes.length - data.length));
  return [encodeRecordHeader(CHUNK, bytes.length, joinCrc32c(before, dataCrc32c, data.length)), bytes];
}

/** Undefined for a type this program doesn't know. Data of a chunk is a view into the record. */
export function decodeLogRecord({ type, body }: DecodedRecord): LogRecord | undefined {
  switch (type) {
    case CHUNK:
      return { case: 'chunk', value: fromBinary(LogChunkSchema, body) };
    case GAP:
      return { case: 'gap', value: fromBinary(LogGapSchema, body) };
    case CLOSE:
      return { case: 'close', value: fromBinary(LogCloseSchema, body) };
    case REFUSED:
      return { case: 'refused' };
    default:
      return undefined;
  }
}

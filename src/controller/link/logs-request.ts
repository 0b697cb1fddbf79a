// Decodes what comes in on a Logs stream, keeping the bytes of each chunk for the log store. Pure.
import { create, fromBinary } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { LogBatchSchema, type LogsRequest, LogsRequestSchema } from '#gen/longline/link/v1/link_pb.js';
import { LogGapSchema } from '#gen/longline/v1/log_pb.js';
import { decodeChunk } from '../logs/chunk-bytes.ts';

const BATCH = LogBatchSchema.field;

/** Decodes a request as the general decoder does; chunks of a batch are views into `bytes`. */
export function decodeLogsRequest(bytes: Uint8Array): LogsRequest {
  const reader = new BinaryReader(bytes);
  if (bytes.length > 0) {
    const [number, type] = reader.tag();
    if (number === LogsRequestSchema.field.batch.number && type === WireType.LengthDelimited) {
      const batch = reader.bytes();
      // Anything after it would have to be merged with it: rare enough for the general way.
      if (reader.pos === reader.len) return decodeBatch(batch);
    }
  }
  return fromBinary(LogsRequestSchema, bytes);
}

function decodeBatch(bytes: Uint8Array): LogsRequest {
  const batch = create(LogBatchSchema);
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (number === BATCH.handle.number && type === WireType.Varint) batch.handle = reader.uint32();
    else if (number === BATCH.chunks.number && type === WireType.LengthDelimited) {
      batch.chunks.push(decodeChunk(reader.bytes()));
    } else if (number === BATCH.gaps.number && type === WireType.LengthDelimited) {
      batch.gaps.push(fromBinary(LogGapSchema, reader.bytes()));
    } else reader.skip(type, number);
  }
  return create(LogsRequestSchema, { message: { case: 'batch', value: batch } });
}

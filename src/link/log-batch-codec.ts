// The bytes of a LogsRequest with a LogBatch, put together once in memory of the right size. The general encoder moves
// what it has written several times while it grows, which was much of the cost of output.
import { toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { LogBatchSchema, LogsRequestSchema } from '#gen/longline/link/v1/link_pb.js';
import { LogChunkSchema, type LogGap, LogGapSchema } from '#gen/longline/v1/log_pb.js';
import type { SpoolChunk } from './spool-record.ts';
import { encodeTime } from './wire.ts';

const REQUEST = LogsRequestSchema.field;
const BATCH = LogBatchSchema.field;
const CHUNK = LogChunkSchema.field;

/** Encodes a request with a batch. Chunks are copied. */
export function encodeLogBatch(handle: number, chunks: readonly SpoolChunk[], gaps: readonly LogGap[]): Buffer {
  const pieces: Uint8Array[] = [new BinaryWriter().tag(BATCH.handle.number, WireType.Varint).uint32(handle).finish()];
  for (const chunk of chunks) {
    const head = chunkHead(chunk);
    pieces.push(lengthPrefix(BATCH.chunks.number, head.length + chunk.data.length), head, chunk.data);
  }
  for (const gap of gaps) {
    const bytes = toBinary(LogGapSchema, gap);
    pieces.push(lengthPrefix(BATCH.gaps.number, bytes.length), bytes);
  }
  const batchBytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  return Buffer.concat([lengthPrefix(REQUEST.batch.number, batchBytes), ...pieces]);
}

/** Everything of a LogChunk that comes before its data. */
function chunkHead({ stream, offset, capturedAtMs, crc32c, data }: SpoolChunk): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(CHUNK.stream.number, WireType.LengthDelimited).string(stream);
  if (offset > 0) writer.tag(CHUNK.offset.number, WireType.Varint).uint64(offset);
  writer.tag(CHUNK.captureTime.number, WireType.LengthDelimited).bytes(encodeTime(capturedAtMs));
  writer.tag(CHUNK.crc32c.number, WireType.Bit32).fixed32(crc32c);
  return writer.tag(CHUNK.data.number, WireType.LengthDelimited).uint32(data.length).finish();
}

function lengthPrefix(number: number, bytes: number): Uint8Array {
  return new BinaryWriter().tag(number, WireType.LengthDelimited).uint32(bytes).finish();
}

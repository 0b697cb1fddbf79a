// The bytes that a chunk came in, kept beside it so that they can be stored as they are. Pure.
import { fromBinary } from '@bufbuild/protobuf';
import { type LogChunk, LogChunkSchema } from '#gen/longline/v1/log_pb.js';

const BYTES = new WeakMap<LogChunk, Uint8Array>();

/** Decodes a chunk. Its data is a view into `bytes`, which must not change afterwards. */
export function decodeChunk(bytes: Uint8Array): LogChunk {
  const chunk = fromBinary(LogChunkSchema, bytes);
  const { data } = chunk;
  const dataEnd = data.byteOffset + data.length;
  // Only with the data at the end does the CRC of the whole follow from that of the data.
  if (data.buffer === bytes.buffer && dataEnd === bytes.byteOffset + bytes.length) BYTES.set(chunk, bytes);
  return chunk;
}

/** The bytes that a chunk was decoded from, if its data is what they end with; undefined for one made otherwise. */
export function bytesOfChunk(chunk: LogChunk): Uint8Array | undefined {
  return BYTES.get(chunk);
}

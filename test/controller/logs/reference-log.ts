// A log as plain bytes, to hold the log store against: what was sent, what of it counts, and what a reader must see.
import { createHash } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  GapReason,
  type LogChunk,
  LogChunkSchema,
  type LogClose,
  LogCloseSchema,
  LogGapSchema,
} from '#gen/longline/v1/log_pb.js';
import type { LogPart } from '../../../src/controller/logs/log-store.ts';
import { crc32c } from '../../../src/core/crc32c.ts';

/** A chunk with a right CRC. */
export function chunk(stream: string, offset: number, data: Uint8Array | string): LogChunk {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  return create(LogChunkSchema, {
    stream,
    offset: BigInt(offset),
    data: bytes,
    crc32c: crc32c(bytes),
    captureTime: timestampFromMs(1_000_000 + offset),
  });
}

/** A gap. */
export function gap(stream: string, from: number, to: number) {
  return create(LogGapSchema, { stream, from: BigInt(from), to: BigInt(to), reason: GapReason.SPOOL_FULL });
}

/** A close that agrees with `content` by stream. */
export function closeOf(content: Readonly<Record<string, Uint8Array>>, gapBytes = 0): LogClose {
  return create(LogCloseSchema, {
    streams: Object.entries(content).map(([stream, bytes]) => ({
      stream,
      length: BigInt(bytes.length + gapBytes),
      gapBytes: BigInt(gapBytes),
      sha256: createHash('sha256').update(bytes).digest(),
    })),
  });
}

/** What a reader saw of one stream; fails on anything that doesn't follow on. */
export function assemble(parts: readonly LogPart[], stream: string, from = 0): Buffer {
  const pieces: Uint8Array[] = [];
  let at = from;
  for (const part of parts) {
    if (part.case === 'close' || part.value.stream !== stream) continue;
    if (part.case === 'gap') {
      if (Number(part.value.from) !== at) throw new Error(`gap at ${part.value.from}, expected ${at}`);
      at = Number(part.value.to);
      continue;
    }
    if (Number(part.value.offset) !== at) throw new Error(`chunk at ${part.value.offset}, expected ${at}`);
    if (crc32c(part.value.data) !== part.value.crc32c) throw new Error(`bad CRC at ${at}`);
    pieces.push(Buffer.from(part.value.data));
    at += part.value.data.length;
  }
  return Buffer.concat(pieces);
}

// What is known of a log's streams at one point of it, and what a batch adds to that. Pure.
import { create } from '@bufbuild/protobuf';
import { type LogChunk, LogChunkSchema, type LogGap, LogGapSchema } from '#gen/longline/v1/log_pb.js';
import { crc32c } from '../../core/crc32c.ts';
import { invalid } from '../../core/errors.ts';
import type { LogAppend, LogPart } from './log-store.ts';

/** Streams of one log; more than output and error leave room for what later capabilities name. */
export const MAX_STREAMS = 16;

/** Form of a stream name. */
export const STREAM_NAME = /^[A-Za-z0-9._-]{1,64}$/;

/** Most data bytes of a chunk, as LogChunk documents it. */
export const MAX_CHUNK_BYTES = 64 * 1024;

/** Extent of one stream. */
export interface StreamExtent {
  /** Bytes, gaps included. */
  readonly length: number;
  readonly gapBytes: number;
}

/** Extents by stream name. */
export type LogExtents = ReadonlyMap<string, StreamExtent>;

const NOTHING: StreamExtent = { length: 0, gapBytes: 0 };

/** What a batch adds. */
export interface AppendPlan {
  readonly parts: readonly Exclude<LogPart, { case: 'close' }>[];
  readonly extents: LogExtents;
}

/** Extents after a part that is known to follow on. */
export function extend(extents: Map<string, StreamExtent>, part: LogPart): void {
  if (part.case === 'close') return;
  const { stream } = part.value;
  const before = extents.get(stream) ?? NOTHING;
  if (part.case === 'chunk')
    extents.set(stream, { ...before, length: Number(part.value.offset) + part.value.data.length });
  else {
    const bytes = Number(part.value.to - part.value.from);
    extents.set(stream, { length: Number(part.value.to), gapBytes: before.gapBytes + bytes });
  }
}

/** The part of a chunk from `from` on; undefined if nothing is left of it. */
export function trimChunk(chunk: LogChunk, from: number): LogChunk | undefined {
  const skip = from - Number(chunk.offset);
  if (skip <= 0) return chunk;
  if (skip >= chunk.data.length) return undefined;
  const data = chunk.data.subarray(skip);
  const { stream, captureTime } = chunk;
  return create(LogChunkSchema, {
    stream,
    offset: BigInt(from),
    data,
    crc32c: crc32c(data),
    ...(captureTime === undefined ? {} : { captureTime }),
  });
}

/** The part of a gap from `from` on; undefined if nothing is left of it. */
export function trimGap(gap: LogGap, from: number): LogGap | undefined {
  if (Number(gap.from) >= from) return gap;
  if (Number(gap.to) <= from) return undefined;
  return create(LogGapSchema, { stream: gap.stream, from: BigInt(from), to: gap.to, reason: gap.reason });
}

class Planner {
  readonly #extents: Map<string, StreamExtent>;
  readonly parts: Exclude<LogPart, { case: 'close' }>[] = [];

  constructor(extents: LogExtents) {
    this.#extents = new Map(extents);
  }

  get extents(): LogExtents {
    return this.#extents;
  }

  #length(stream: string): number {
    const known = this.#extents.get(stream);
    if (known !== undefined) return known.length;
    if (!STREAM_NAME.test(stream)) {
      throw invalid([
        { field: 'stream', description: `'${stream.slice(0, 80)}' must be 1 to 64 characters of [A-Za-z0-9._-]` },
      ]);
    }
    if (this.#extents.size >= MAX_STREAMS) {
      throw invalid([{ field: 'stream', description: `'${stream}' would be one more than ${MAX_STREAMS} streams` }]);
    }
    return 0;
  }

  #refuseHole(field: string, stream: string, begins: bigint, length: number): never {
    const description = `stream ${stream} is stored up to ${length}, this begins at ${begins}: send what lies between or declare a gap`;
    throw invalid([{ field, description }]);
  }

  takeGap(gap: LogGap): void {
    const length = this.#length(gap.stream);
    if (gap.to < gap.from || gap.to > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw invalid([
        { field: 'gaps', description: `gap of stream ${gap.stream} from ${gap.from} to ${gap.to} isn't a range` },
      ]);
    }
    if (gap.from > BigInt(length)) this.#refuseHole('gaps', gap.stream, gap.from, length);
    const rest = trimGap(gap, length);
    if (rest === undefined || rest.to === rest.from) return;
    this.#take({ case: 'gap', value: rest });
  }

  takeChunk(chunk: LogChunk): void {
    const length = this.#length(chunk.stream);
    if (chunk.data.length > MAX_CHUNK_BYTES) {
      throw invalid([
        { field: 'chunks', description: `chunk of ${chunk.data.length} bytes; at most ${MAX_CHUNK_BYTES} are allowed` },
      ]);
    }
    if (chunk.offset > BigInt(length)) this.#refuseHole('chunks', chunk.stream, chunk.offset, length);
    const checksum = crc32c(chunk.data);
    if (checksum !== chunk.crc32c) {
      const at = `stream ${chunk.stream} at ${chunk.offset}`;
      throw invalid([
        { field: 'chunks', description: `${at}: CRC-32C is ${checksum}, the chunk says ${chunk.crc32c}` },
      ]);
    }
    const rest = trimChunk(chunk, length);
    if (rest === undefined || rest.data.length === 0) return;
    this.#take({ case: 'chunk', value: rest });
  }

  #take(part: Exclude<LogPart, { case: 'close' }>): void {
    this.parts.push(part);
    extend(this.#extents, part);
  }

  reach(stream: string): number {
    return this.#extents.get(stream)?.length ?? 0;
  }
}

/** What a batch adds to a log of these extents. Throws `invalid` if a part of it can't follow. */
export function planAppend(extents: LogExtents, batch: LogAppend): AppendPlan {
  const planner = new Planner(extents);
  let gaps = [...batch.gaps];
  for (const chunk of batch.chunks) {
    // A gap lies before the chunk that follows it: take those that make this chunk follow on.
    if (gaps.length > 0 && chunk.offset > BigInt(planner.reach(chunk.stream))) {
      for (const gap of gaps) if (gap.stream === chunk.stream && gap.from < chunk.offset) planner.takeGap(gap);
      gaps = gaps.filter((gap) => gap.stream !== chunk.stream || gap.from >= chunk.offset);
    }
    planner.takeChunk(chunk);
  }
  for (const gap of gaps) planner.takeGap(gap);
  return { parts: planner.parts, extents: planner.extents };
}

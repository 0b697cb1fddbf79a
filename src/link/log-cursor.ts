// Reads a spooled log from given offsets on, as batches for the wire. What can't be read comes out as a declared gap.
import { type FileHandle, open } from 'node:fs/promises';
import { crc32c } from '../core/crc32c.ts';
import type { DecodedRecord } from '../core/record-codec.ts';
import type { FreshRecords, SpoolItem } from './fresh-records.ts';
import { RecordReader } from './record-reader.ts';
import { decodeChunk, decodeSpoolFact, SPOOL_RECORD, type SpoolChunk, type SpoolGap } from './spool-record.ts';
import type { Segment } from './spool-segment.ts';
import { storageError } from './storage-error.ts';

/** What a cursor reads: segments in order, and how far each stream is written. */
export interface CursorSource {
  readonly segments: readonly Segment[];
  writtenLengths(): ReadonlyMap<string, number>;
}

/** A run of chunks and gaps in capture order. */
export interface CursorBatch {
  readonly chunks: SpoolChunk[];
  readonly gaps: SpoolGap[];
  readonly dataBytes: number;
}

/** A position in a log. Bytes and gaps come out once each, without overlap or hole. The owner disposes it. */
export class LogCursor implements AsyncDisposable {
  readonly #source: CursorSource;
  readonly #positions: Map<string, number>;
  readonly #fresh: FreshRecords | undefined;
  #segment: Segment | undefined;
  #file: FileHandle | undefined;
  #reader: RecordReader | undefined;
  #held: SpoolItem | undefined;
  #damaged = false;

  /**
   * @param from offset per stream to begin at; streams not named begin at 0.
   * @param fresh what need not be read from disk; this cursor is then its only reader.
   */
  constructor(source: CursorSource, from: ReadonlyMap<string, number>, fresh?: FreshRecords) {
    this.#source = source;
    this.#fresh = fresh;
    this.#positions = new Map(from);
  }

  /** Offsets up to which everything came out. */
  get positions(): ReadonlyMap<string, number> {
    return this.#positions;
  }

  /** True once a damaged record was met: digests made while writing don't fit what can be read. */
  get damaged(): boolean {
    return this.#damaged;
  }

  /** The next chunks and gaps, about `maxBytes` of data and at most that if there is more than one chunk. */
  async next(maxBytes: number): Promise<CursorBatch | undefined> {
    const batch = { chunks: [] as SpoolChunk[], gaps: [] as SpoolGap[], dataBytes: 0 };
    while (batch.dataBytes < maxBytes && batch.gaps.length < 1000 && batch.chunks.length < 1000) {
      const item = this.#held ?? (await this.#nextItem(batch.gaps));
      if (item === undefined) break;
      this.#held = undefined;
      if (item.kind === 'gap') this.#addGap(batch.gaps, item.gap);
      if (item.kind !== 'chunk') continue;
      const chunk = this.#clip(item.chunk);
      if (chunk === undefined) continue;
      if (batch.dataBytes > 0 && batch.dataBytes + chunk.data.length > maxBytes) {
        this.#held = item;
        break;
      }
      this.#declareHole(batch.gaps, chunk.stream, chunk.offset);
      batch.chunks.push(chunk);
      batch.dataBytes += chunk.data.length;
      this.#positions.set(chunk.stream, chunk.offset + chunk.data.length);
    }
    return batch.chunks.length + batch.gaps.length > 0 ? batch : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async #nextItem(gaps: SpoolGap[]): Promise<SpoolItem | undefined> {
    for (;;) {
      if (this.#reader === undefined && !(await this.#openNext())) return undefined;
      const segment = this.#segment!;
      const fresh = this.#fresh?.take(segment.number, this.#reader!.offset);
      if (fresh !== undefined) {
        this.#reader!.skipTo(fresh.end);
        return fresh.item;
      }
      const step = await this.#reader!.next(segment.sizeBytes);
      if (step.kind === 'record') return itemOf(step.record);
      const following = this.#following(segment);
      if (step.kind === 'bad') {
        this.#damaged = true;
        const ends = following?.start ?? {};
        const written = this.#source.writtenLengths();
        for (const [stream, length] of written) {
          this.#declareHole(gaps, stream, following === undefined ? length : (ends[stream] ?? 0));
        }
        if (following === undefined) this.#reader = new RecordReader(this.#file!, segment.sizeBytes);
      }
      if (following === undefined) return undefined;
      await this[Symbol.asyncDispose]();
      this.#reader = undefined;
    }
  }

  #following(segment: Segment): Segment | undefined {
    return this.#source.segments.find((other) => other.number > segment.number);
  }

  async #openNext(): Promise<boolean> {
    const segment = this.#segment === undefined ? this.#firstSegment() : this.#following(this.#segment);
    if (segment === undefined) return false;
    try {
      this.#file = await open(segment.path, 'r');
    } catch (error) {
      throw storageError('open', segment.path, error);
    }
    this.#segment = segment;
    this.#reader = new RecordReader(this.#file);
    return true;
  }

  /** The last segment that begins at or before every position. */
  #firstSegment(): Segment | undefined {
    const { segments } = this.#source;
    return (
      segments.findLast(({ start }) =>
        Object.entries(start).every(([stream, length]) => length <= (this.#positions.get(stream) ?? 0)),
      ) ?? segments[0]
    );
  }

  #clip(chunk: SpoolChunk): SpoolChunk | undefined {
    const skip = (this.#positions.get(chunk.stream) ?? 0) - chunk.offset;
    if (skip >= chunk.data.length) return undefined;
    if (skip <= 0) return chunk;
    const data = chunk.data.subarray(skip);
    return { ...chunk, offset: chunk.offset + skip, data, crc32c: crc32c(data) };
  }

  #addGap(gaps: SpoolGap[], gap: SpoolGap): void {
    this.#declareHole(gaps, gap.stream, gap.from);
    const from = Math.max(gap.from, this.#positions.get(gap.stream) ?? 0);
    if (from >= gap.to) return;
    gaps.push({ ...gap, from });
    this.#positions.set(gap.stream, gap.to);
  }

  #declareHole(gaps: SpoolGap[], stream: string, to: number): void {
    const from = this.#positions.get(stream) ?? 0;
    if (from >= to) return;
    this.#damaged = true;
    gaps.push({ stream, from, to, reason: 'corrupt' });
    this.#positions.set(stream, to);
  }
}

function itemOf(record: DecodedRecord): SpoolItem {
  if (record.type === SPOOL_RECORD.chunk) return { kind: 'chunk', chunk: decodeChunk(record) };
  if (record.type === SPOOL_RECORD.gap) return { kind: 'gap', gap: decodeSpoolFact<SpoolGap>(record) };
  return { kind: 'other' };
}

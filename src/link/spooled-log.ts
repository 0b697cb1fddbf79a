// The writing end of one log in the spool: pieces become chunk records in segment files, in order, in the background.
// What the budget or the disk refuses becomes a gap; a write error never reaches the producer as lost silence.
// It fails only in `close`, when even the closing record can't be made durable, and may then be closed again.
import { rm } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { noteFlow } from '../core/collection-pace.ts';
import { invalid, LonglineError } from '../core/errors.ts';
import { type FreshBudget, FreshRecords } from './fresh-records.ts';
import { LogCursor } from './log-cursor.ts';
import { type SegmentPolicy, SegmentWriter } from './segment-writer.ts';
import {
  ChunkBuilder,
  encodeSpoolFact,
  MAX_CHUNK_BYTES,
  type SegmentHead,
  SPOOL_RECORD,
  type SpoolGap,
  type SpoolGapReason,
  type StreamSummary,
} from './spool-record.ts';
import type { LoadedLog, Segment } from './spool-segment.ts';
import { StreamDigests } from './stream-digests.ts';

/** What a log needs of the spool that it is in. */
export interface SpoolHost extends SegmentPolicy {
  readonly freshBudget: FreshBudget;
  /** Whether `bytes` more may be written for this log; frees what the controller has, if it must. */
  makeRoom(log: SpooledLog, bytes: number): Promise<boolean>;
  /** More can be read, or the log was closed. */
  written(log: SpooledLog): void;
  /** The disk refused a write, after which something may be freed. */
  refused(log: SpooledLog, error: unknown): Promise<void>;
  /** So many bytes were declared lost. */
  lost(bytes: number, reason: SpoolGapReason): void;
  /** The controller has stored so many bytes more. */
  stored(bytes: number): void;
  /** The disk took a write. */
  taken(): void;
}

/** Name of a log. */
export interface LogName {
  readonly id: string;
  readonly attempt: number;
  readonly kind: string;
}

/** Something accepted and not yet written. */
type Item = { readonly chunk: ChunkBuilder } | { gap: SpoolGap };

/** Most bytes that wait in memory for one log; a producer waits above it. */
const MAX_PENDING_BYTES = 1024 * 1024;
/** While the spool is full, a gap grows in memory to this before it is written, so that gaps don't fill the disk. */
const OWED_GAP_BYTES = 1024 * 1024;
const MAX_STREAMS = 16;
const STREAM_NAME = /^[A-Za-z0-9._-]{1,64}$/;

/** Owned by the spool. Offsets of a stream are given out in the order of `append` and `gap`. */
export class SpooledLog {
  readonly name: LogName;
  readonly folder: string;
  /** What was written a moment ago. */
  readonly fresh: FreshRecords;
  readonly #host: SpoolHost;
  readonly #writer: SegmentWriter;
  /** Where each stream stands with everything accepted. */
  readonly #accepted: Map<string, number>;
  /** Where each stream stands on disk. */
  readonly #written: Map<string, number>;
  readonly #acknowledged = new Map<string, number>();
  /** Undefined until `prepare` for a log that was loaded. */
  #digests: StreamDigests | undefined;
  #pending: Item[] = [];
  #pendingBytes = 0;
  #lastChunkBytes = 0;
  #owedGaps: { gap: SpoolGap }[] = [];
  #flushing: Promise<void> | undefined;
  #waiting: (() => void)[] = [];
  #summary: readonly StreamSummary[] | undefined;
  #closing: Promise<readonly StreamSummary[]> | undefined;
  #released = false;
  #freeing: Promise<unknown> = Promise.resolve();

  constructor(name: LogName, folder: string, host: SpoolHost, loaded: LoadedLog | undefined) {
    this.name = name;
    this.folder = folder;
    this.#host = host;
    this.fresh = new FreshRecords(host.freshBudget);
    this.#writer = new SegmentWriter(folder, host, loaded);
    this.#accepted = new Map(loaded?.lengths);
    this.#written = new Map(loaded?.lengths);
    this.#summary = loaded?.closed;
    this.#digests = loaded === undefined ? new StreamDigests() : undefined;
  }

  get segments(): readonly Segment[] {
    return this.#writer.segments;
  }

  /** Lengths and digests once closed; undefined before. */
  get summary(): readonly StreamSummary[] | undefined {
    return this.#summary;
  }

  /** Bytes on disk. */
  get sizeBytes(): number {
    return this.#writer.sizeBytes;
  }

  /** Whether the log can still be read from its first byte. */
  get complete(): boolean {
    return (this.segments[0]?.number ?? 1) === 1;
  }

  /** Bytes of a stream that are safe, about to be, or declared lost. */
  length(stream: string): number {
    return this.#accepted.get(stream) ?? 0;
  }

  writtenLengths(): ReadonlyMap<string, number> {
    return this.#written;
  }

  /** Makes a log ready for appending: the digests of one that was loaded from disk go on from what is there. */
  async prepare(): Promise<void> {
    if (this.#summary === undefined) this.#writer.prepare(this.#head());
    if (this.#digests === undefined && this.#summary === undefined) this.#digests = await this.#readDigests();
  }

  /** Appends. Resolves when there is room for more; `data` may be reused after that. */
  async append(piece: { readonly stream: string; readonly data: Uint8Array }, capturedAtMs: number): Promise<void> {
    this.#checkOpen(piece.stream);
    noteFlow(piece.data.length);
    let data = piece.data;
    while (data.length > 0) {
      const count = this.#chunkFor(piece.stream, capturedAtMs).add(data);
      this.#accepted.set(piece.stream, this.length(piece.stream) + count);
      this.#pendingBytes += count;
      data = count === data.length ? data.subarray(data.length) : data.subarray(count);
    }
    this.#kick();
    while (this.#pendingBytes > MAX_PENDING_BYTES) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push(resolve);
      await promise;
    }
  }

  /** Declares the next `bytes` of a stream as lost. */
  async gap(stream: string, bytes: number, reason: SpoolGapReason): Promise<void> {
    this.#checkOpen(stream);
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw invalid([{ field: 'bytes', description: `${bytes} is no length of a gap; give 0 or a positive integer` }]);
    }
    if (bytes === 0) return;
    const from = this.length(stream);
    addGap(this.#pending, { stream, from, to: from + bytes, reason });
    this.#host.lost(bytes, reason);
    this.#accepted.set(stream, from + bytes);
    this.#kick();
  }

  /** Makes everything durable and closes the log for good. Idempotent. */
  close(): Promise<readonly StreamSummary[]> {
    if (this.#summary !== undefined) return Promise.resolve(this.#summary);
    this.#closing ??= this.#close().finally(() => {
      this.#closing = undefined;
    });
    return this.#closing;
  }

  /** The controller has everything below these offsets stored. */
  acknowledge(offsets: ReadonlyMap<string, number>): void {
    for (const [stream, offset] of offsets) {
      // Less than before for a log that is sent anew.
      this.#host.stored(Math.max(0, offset - (this.#acknowledged.get(stream) ?? 0)));
      this.#acknowledged.set(stream, offset);
    }
  }

  /** Frees the oldest segment if the controller has all of it. Gives the bytes freed; 0 if there is none. */
  freeAcknowledged(): Promise<number> {
    // One after the other: any log that needs room may ask, and each call is to take away one segment that it has looked at.
    const freed = this.#freeing.then(() => this.#freeOne());
    this.#freeing = freed.catch(() => undefined);
    return freed;
  }

  async #freeOne(): Promise<number> {
    const [first, next] = this.segments;
    if (first === undefined || next === undefined) return 0;
    const stored = (stream: string, length: number) => length <= (this.#acknowledged.get(stream) ?? 0);
    if (!Object.entries(next.start).every(([stream, length]) => stored(stream, length))) return 0;
    if (this.#summary === undefined) await this.#savePrefix(first, next);
    this.#writer.segments.shift();
    await rm(first.path, { force: true });
    return first.sizeBytes;
  }

  /** Lengths and digests of what can really be read, for when damage on disk was met. */
  async resummarize(): Promise<readonly StreamSummary[]> {
    this.#summary = (await this.#readDigests()).summaries();
    return this.#summary;
  }

  /** Writes what waits, without closing the log: a later process goes on. May be called twice. */
  async release(): Promise<void> {
    this.#released = true;
    while (this.#flushing !== undefined) await this.#flushing;
    await this.#writer.finish();
    this.fresh.clear();
  }

  #checkOpen(stream: string): void {
    if (this.#summary !== undefined || this.#closing !== undefined || this.#released) {
      throw new LonglineError('wrong_state', `log ${this.name.id} is closed; nothing can be appended`);
    }
    if (!STREAM_NAME.test(stream) || (!this.#accepted.has(stream) && this.#accepted.size >= MAX_STREAMS)) {
      const description = `"${stream}" is no stream name, or the log has ${MAX_STREAMS} already; use stdout or stderr`;
      throw invalid([{ field: 'stream', description }]);
    }
  }

  /** The chunk that the next byte of a stream goes into. */
  #chunkFor(stream: string, capturedAtMs: number): ChunkBuilder {
    const last = this.#pending.at(-1);
    if (last !== undefined && 'chunk' in last) {
      if (last.chunk.stream === stream && last.chunk.dataBytes < MAX_CHUNK_BYTES) return last.chunk;
    }
    if (last !== undefined && 'chunk' in last) this.#lastChunkBytes = last.chunk.dataBytes;
    const chunk = new ChunkBuilder(stream, this.length(stream), capturedAtMs, this.#lastChunkBytes);
    this.#pending.push({ chunk });
    return chunk;
  }

  #kick(): void {
    this.#flushing ??= this.#flush();
  }

  async #flush(): Promise<void> {
    // Appends of one turn of the event loop are written together.
    await nextTurn();
    while (this.#pending.length > 0) {
      const round = this.#pending;
      const roundBytes = this.#pendingBytes;
      this.#pending = [];
      await this.#writeRound(round);
      this.#pendingBytes -= roundBytes;
      for (const wake of this.#waiting.splice(0)) wake();
      this.#host.written(this);
    }
    // In the same step as the last look: an append that comes later must begin a new flush.
    this.#flushing = undefined;
  }

  async #writeRound(round: readonly Item[]): Promise<void> {
    const items: Item[] = [...this.#owedGaps];
    let worthWriting = false;
    for (const item of round) {
      if ('gap' in item) addGap(items, item.gap);
      else if (await this.#host.makeRoom(this, item.chunk.dataBytes)) items.push(item);
      else addGap(items, this.#gapOf(item.chunk));
      worthWriting ||= 'gap' in item || items.at(-1) === item;
    }
    this.#owedGaps = items.flatMap((item) => ('gap' in item ? [item] : []));
    const owedBytes = this.#owedGaps.reduce((sum, { gap }) => sum + gap.to - gap.from, 0);
    if (!worthWriting && owedBytes < OWED_GAP_BYTES) return;
    try {
      await this.#write(items);
      this.#host.taken();
    } catch (error) {
      this.#host.log.error('log spool cannot be written; output is lost and declared', {
        logId: this.name.id,
        err: error,
      });
      const owed: { gap: SpoolGap }[] = [];
      for (const item of items) addGap(owed, 'gap' in item ? item.gap : this.#gapOf(item.chunk));
      this.#owedGaps = owed;
      await this.#host.refused(this, error);
    }
  }

  async #write(items: readonly Item[]): Promise<void> {
    const frames = items.map((item) =>
      'gap' in item ? encodeSpoolFact(SPOOL_RECORD.gap, item.gap) : item.chunk.seal(),
    );
    const { segment, start } = await this.#writer.write(frames, () => this.#head());
    this.#owedGaps = [];
    let end = start;
    for (const [index, item] of items.entries()) {
      const at = { segment, start: end, end: end + frames[index]!.length };
      end = at.end;
      this.fresh.add({ item: 'gap' in item ? { kind: 'gap', gap: item.gap } : { kind: 'chunk', ...item }, ...at });
      if ('gap' in item) {
        this.#digests!.addGap(item.gap.stream, item.gap.to - item.gap.from);
        this.#written.set(item.gap.stream, item.gap.to);
      } else {
        const { stream, offset, data } = item.chunk;
        this.#digests!.update(stream, data);
        this.#written.set(stream, offset + data.length);
      }
    }
  }

  #gapOf({ stream, offset, dataBytes }: ChunkBuilder): SpoolGap {
    this.#host.lost(dataBytes, 'spool_full');
    return { stream, from: offset, to: offset + dataBytes, reason: 'spool_full' };
  }

  #head(): SegmentHead {
    const { id, kind, attempt } = this.name;
    return { logId: id, kind, attempt, streams: Object.fromEntries(this.#written) };
  }

  async #close(): Promise<readonly StreamSummary[]> {
    while (this.#flushing !== undefined) await this.#flushing;
    await this.prepare();
    if (this.#owedGaps.length > 0) await this.#write(this.#owedGaps);
    const summary = this.#digests!.summaries();
    await this.#writer.write([encodeSpoolFact(SPOOL_RECORD.close, summary)], () => this.#head());
    await this.#writer.sync();
    await this.#writer.finish();
    this.#summary = summary;
    this.#host.written(this);
    return summary;
  }

  async #readDigests(): Promise<StreamDigests> {
    const digests = await StreamDigests.load(this.folder, this.segments[0]?.number ?? 1);
    await using cursor = new LogCursor(this, digests.lengths());
    await digests.read(cursor);
    return digests;
  }

  async #savePrefix(first: Segment, next: Segment): Promise<void> {
    const prefix = await StreamDigests.load(this.folder, first.number, true);
    const lengths = new Map(Object.entries(next.start));
    await using cursor = new LogCursor({ segments: [first], writtenLengths: () => lengths }, prefix.lengths());
    await prefix.read(cursor);
    await prefix.save(this.folder, next.number);
  }
}

/** Adds a gap, growing the last one of its stream where they touch and have the same reason. */
function addGap(items: Item[], gap: SpoolGap): void {
  for (let index = items.length - 1; index >= 0; index--) {
    const item = items[index]!;
    if (!('gap' in item) || item.gap.stream !== gap.stream) continue;
    if (item.gap.to !== gap.from || item.gap.reason !== gap.reason) break;
    items[index] = { gap: { ...item.gap, to: gap.to } };
    return;
  }
  items.push({ gap });
}

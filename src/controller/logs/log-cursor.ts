// A reader's place in a log. Reads what is written by now; when to look again is the reader's business.
import { create } from '@bufbuild/protobuf';
import { GapReason, LogGapSchema } from '#gen/longline/v1/log_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { decodeRecord } from '../../core/record-codec.ts';
import type { LogFile } from './log-file.ts';
import { decodeLogRecord, type LogRecord } from './log-record.ts';
import { trimChunk, trimGap } from './log-state.ts';
import type { LogCursor, LogPart, LogRange } from './log-store.ts';

/** Bytes read at once. */
const READ_BYTES = 256 * 1024;

/** Gives a file for the time of one read. */
export type FileBorrower = <T>(use: (file: LogFile) => Promise<T>) => Promise<T>;

/** Cursor over a LogFile. */
export class FileLogCursor implements LogCursor {
  readonly #borrow: FileBorrower;
  readonly #streams: ReadonlySet<string>;
  readonly #next: Map<string, number>;
  readonly #generation: number;
  #position: number;
  #ended = false;

  private constructor(borrow: FileBorrower, file: LogFile, range: LogRange) {
    this.#borrow = borrow;
    this.#streams = range.streams;
    this.#next = new Map(range.from);
    this.#generation = file.generation;
    this.#position = beginning(file, range);
  }

  static async open(borrow: FileBorrower, range: LogRange): Promise<FileLogCursor> {
    return await borrow(async (file) => new FileLogCursor(borrow, file, range));
  }

  get ended(): boolean {
    return this.#ended;
  }

  async read(): Promise<readonly LogPart[]> {
    return await this.#borrow(async (file) => {
      // Records that aren't wanted make no parts; go on until there are some, or nothing more to read.
      for (;;) {
        if (file.generation !== this.#generation) {
          throw new LonglineError(
            'unavailable',
            'the log changed beneath this reader; read it again from where you were',
          );
        }
        const before = this.#position;
        const parts = this.#ended ? [] : await this.#readOnce(file);
        if (parts.length > 0 || this.#ended || this.#position === before) return parts;
      }
    });
  }

  async #readOnce(file: LogFile): Promise<LogPart[]> {
    const recent = this.#takeRecent(file);
    if (recent !== undefined) return recent;
    const parts: LogPart[] = [];
    let length = READ_BYTES;
    for (;;) {
      const buffer = await file.read(this.#position, length);
      let used = 0;
      while (!this.#ended) {
        const found = decodeRecord(buffer, used);
        if (found.kind === 'damaged') {
          if (parts.length === 0) parts.push(...this.#skipDamage(file));
          return parts;
        }
        if (found.kind === 'incomplete') {
          if (used > 0 || buffer.length < length) return parts;
          length = found.needBytes;
          break;
        }
        used = found.record.end;
        this.#position += used - found.record.start;
        const record = decodeLogRecord(found.record);
        const part = record === undefined ? undefined : this.#wanted(record);
        if (part !== undefined) parts.push(part);
      }
      if (this.#ended) return parts;
    }
  }

  /** What need not be read from disk; undefined if that is nothing. */
  #takeRecent(file: LogFile): LogPart[] | undefined {
    if (this.#position === file.end) file.recent.follow();
    const records = file.recent.from(this.#position, READ_BYTES);
    if (records.length === 0) return undefined;
    const parts: LogPart[] = [];
    for (const { record, end } of records) {
      this.#position = end;
      const part = this.#wanted(record);
      if (part !== undefined) parts.push(part);
    }
    return parts;
  }

  #wanted(record: LogRecord): LogPart | undefined {
    if (record.case === 'refused') return undefined;
    if (record.case === 'close') {
      this.#ended = true;
      return record;
    }
    const { stream } = record.value;
    if (this.#streams.size > 0 && !this.#streams.has(stream)) return undefined;
    const from = this.#next.get(stream) ?? 0;
    if (record.case === 'chunk') {
      const value = trimChunk(record.value, from);
      if (value === undefined) return undefined;
      this.#next.set(stream, Number(value.offset) + value.data.length);
      return { case: 'chunk', value };
    }
    const value = trimGap(record.value, from);
    if (value === undefined) return undefined;
    this.#next.set(stream, Number(value.to));
    return { case: 'gap', value };
  }

  /** Goes on at the next position known to be good and declares what lies between as lost. */
  #skipDamage(file: LogFile): LogPart[] {
    const entry = file.index.after(this.#position);
    if (entry === undefined) {
      throw new LonglineError(
        'internal',
        `the stored log is damaged at byte ${this.#position} and can't be read past it`,
      );
    }
    this.#position = entry.position;
    const parts: LogPart[] = [];
    for (const [stream, { length }] of entry.extents) {
      const gap = create(LogGapSchema, {
        stream,
        from: BigInt(this.#next.get(stream) ?? 0),
        to: BigInt(length),
        reason: GapReason.CORRUPT,
      });
      const part = gap.to > gap.from ? this.#wanted({ case: 'gap', value: gap }) : undefined;
      if (part !== undefined) parts.push(part);
    }
    return parts;
  }
}

function beginning(file: LogFile, { from, streams }: LogRange): number {
  // Streams that aren't named begin at 0, so only a reader that named every stream it wants can begin further on.
  const wanted = streams.size > 0 ? [...streams] : [...from.keys()];
  const unnamed = streams.size === 0 ? file.index.last?.extents.keys() : undefined;
  const all = new Set([...wanted, ...(unnamed ?? [])]);
  if (all.size === 0) return 0;
  return Math.min(...[...all].map((stream) => file.index.locate(stream, from.get(stream) ?? 0)));
}

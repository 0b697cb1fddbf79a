// One log on disk: segments, sparse index and the state that follows from them. Appends are made one after another; reads
// go on beside them, up to what was written. Opening costs the unsynced tail only, as long as the index file is good.
import { type FileHandle, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogClose } from '#gen/longline/v1/log_pb.js';
import { noteFlow } from '../../core/collection-pace.ts';
import { decodeRecord } from '../../core/record-codec.ts';
import type { Generations } from './generations.ts';
import { decodeIndex, encodeIndexEntry, type IndexEntry, LogIndex } from './log-index.ts';
import { decodeLogRecord, frameLogRecord, type LogRecord } from './log-record.ts';
import { extend, type LogExtents, planAppend, type StreamExtent } from './log-state.ts';
import type { LogAppend } from './log-store.ts';
import { checkClose, StreamDigests } from './log-verification.ts';
import { RecentParts } from './recent-parts.ts';
import { Segments, writeError } from './segments.ts';

/** Bytes between two entries of the index. */
const INDEX_INTERVAL_BYTES = 64 * 1024;

/** Bytes read at once while looking through a log. */
const SCAN_BYTES = 1024 * 1024;

const INDEX_FILE = 'index';

interface FoundRecord {
  readonly record: LogRecord;
  /** Position after it. */
  readonly end: number;
}

/** One log on disk. Made by FileLogStore, which disposes it. */
export class LogFile implements AsyncDisposable {
  readonly #folder: string;
  readonly #segments: Segments;
  readonly #generations: Generations;
  /** For readers at the end of the log. */
  readonly recent = new RecentParts();
  #index: LogIndex;
  #indexHandle: FileHandle | undefined;
  #unsavedEntries: IndexEntry[] = [];
  #extents: LogExtents = new Map();
  #durable: LogExtents = new Map();
  #durableEnd = 0;
  #close: LogClose | undefined;
  #refused = false;
  #digests: StreamDigests | undefined = new StreamDigests();
  #tail: Promise<unknown> = Promise.resolve();
  #syncing: Promise<void> | undefined;
  /** Writers and reads under way; the store forgets only files without users. */
  users = 0;

  private constructor(folder: string, segments: Segments, index: LogIndex, generations: Generations) {
    this.#generations = generations;
    this.#folder = folder;
    this.#segments = segments;
    this.#index = index;
  }

  /** Opens or creates a log; a damaged tail is cut off. */
  static async open(
    folder: string,
    segmentBytes: number,
    generations: Generations,
    parents: readonly string[] = [],
  ): Promise<LogFile> {
    const segments = await Segments.open(folder, segmentBytes, parents);
    const stored = await readFile(join(folder, INDEX_FILE)).catch(() => Buffer.alloc(0));
    const { entries, whole } = decodeIndex(stored, segments.end);
    const file = new LogFile(folder, segments, new LogIndex(entries), generations);
    if (!whole) {
      await rm(join(folder, INDEX_FILE));
      file.#unsavedEntries.push(...entries);
    }
    await file.#recover();
    return file;
  }

  /** A new log in a folder that was just made below `parents`; nothing of it is durable before the first sync. */
  static begin(folder: string, segmentBytes: number, generations: Generations, parents: readonly string[]): LogFile {
    const segments = Segments.begin(folder, segmentBytes, parents);
    const file = new LogFile(folder, segments, new LogIndex([]), generations);
    // Ahead of the first bytes, which need not wait for it then; they try again, and tell, if it fails.
    file.#exclusively(() => segments.prepare()).catch(() => undefined);
    return file;
  }

  get end(): number {
    return this.#segments.end;
  }

  /** Changes when positions given out before no longer mean anything. */
  get generation(): number {
    return this.#generations.of(this.#folder);
  }

  get index(): LogIndex {
    return this.#index;
  }

  get closed(): boolean {
    return this.#close !== undefined;
  }

  get storedClose(): LogClose | undefined {
    return this.#close;
  }

  /** Lengths that are durable; none if the log is to be taken anew. */
  durableOffsets(): ReadonlyMap<string, number> {
    if (this.#refused) return new Map();
    return new Map([...this.#durable].map(([name, extent]) => [name, extent.length]));
  }

  /** Bytes at a position, for cursors. */
  async read(position: number, length: number): Promise<Buffer> {
    const bytes = await this.#segments.read(position, length);
    noteFlow(bytes.length);
    return bytes;
  }

  async append(batch: LogAppend): Promise<boolean> {
    return await this.#exclusively(async () => {
      if (this.closed) return false;
      const plan = planAppend(this.#refused ? new Map() : this.#extents, batch);
      if (plan.parts.length === 0) return false;
      if (this.#refused) await this.#restart();
      await this.#write(plan.parts);
      this.#extents = plan.extents;
      this.#digests?.take(plan.parts);
      return true;
    });
  }

  /** Makes durable what was appended so far; whatever is appended meanwhile is not waited for. */
  async sync(): Promise<void> {
    const { end, generation } = this;
    while (this.#durableEnd < end && this.generation === generation) {
      this.#syncing ??= this.#syncOnce();
      await this.#syncing;
    }
  }

  async close(close: LogClose): Promise<void> {
    await this.#exclusively(async () => {
      if (this.closed) return;
      this.#digests ??= await this.#digestStored();
      try {
        checkClose(close, this.#refused ? new Map() : this.#extents, this.#digests);
      } catch (error) {
        if (!this.#refused) await this.#write([{ case: 'refused' }]);
        this.#refused = true;
        throw error;
      }
      await this.#write([{ case: 'close', value: close }]);
      this.#close = close;
    });
    await this.sync();
  }

  /** Closes with a close that was checked before, when the bytes that it speaks of were still here. */
  async adoptClose(close: LogClose): Promise<void> {
    await this.#exclusively(async () => {
      await this.#write([{ case: 'close', value: close }]);
      this.#close = close;
    });
  }

  /** Lets go of open files until they are needed again. */
  async letGo(): Promise<void> {
    await this.#exclusively(async () => {
      await this.#segments.letGo();
      const handle = this.#indexHandle;
      this.#indexHandle = undefined;
      await handle?.close();
    });
  }

  async #exclusively<T>(task: () => Promise<T>): Promise<T> {
    const mine = this.#tail.then(task);
    this.#tail = mine.catch(() => undefined);
    return await mine;
  }

  async #write(records: readonly LogRecord[]): Promise<void> {
    this.#noteEntry();
    const frames = records.map(frameLogRecord);
    let start = this.end;
    await this.#segments.append(frames.flat());
    noteFlow(this.end - start);
    for (const [index, record] of records.entries()) {
      const end = frames[index]!.reduce((sum, piece) => sum + piece.length, start);
      this.recent.add(record, start, end);
      start = end;
    }
  }

  #noteEntry(): void {
    const position = this.end;
    if (position - (this.#index.last?.position ?? 0) < INDEX_INTERVAL_BYTES) return;
    const entry = { position, extents: this.#extents };
    this.#index.add(entry);
    this.#unsavedEntries.push(entry);
  }

  async #syncOnce(): Promise<void> {
    try {
      // Appends go on beside the disk's sync: what they add is simply not covered by it.
      const { extents, end, generation, synced } = await this.#exclusively(async () => {
        const { synced } = await this.#segments.startSync();
        return { extents: this.#extents, end: this.end, generation: this.generation, synced };
      });
      await synced;
      await this.#exclusively(async () => {
        if (this.generation !== generation) return;
        this.#durable = extents;
        this.#durableEnd = end;
        await this.#saveEntries();
      });
    } finally {
      this.#syncing = undefined;
    }
  }

  /** Not synced: after a crash the positions that were synced before them are simply looked through again. */
  async #saveEntries(): Promise<void> {
    const entries = this.#unsavedEntries.splice(0);
    if (entries.length === 0) return;
    try {
      this.#indexHandle ??= await open(join(this.#folder, INDEX_FILE), 'a', 0o600);
      await this.#indexHandle.appendFile(Buffer.concat(entries.map(encodeIndexEntry)));
    } catch (error) {
      throw writeError(this.#folder, error);
    }
  }

  async #recover(): Promise<void> {
    const from = this.#index.last;
    const extents = new Map<string, StreamExtent>(from?.extents);
    let position = from?.position ?? 0;
    for await (const { record, end } of this.#records(position)) {
      if (!followsOn(extents, record)) break;
      if (record.case === 'close') this.#close = record.value;
      else if (record.case === 'refused') this.#refused = true;
      else extend(extents, record);
      position = end;
      if (position - (this.#index.last?.position ?? 0) >= INDEX_INTERVAL_BYTES) {
        const entry = { position, extents: new Map(extents) };
        this.#index.add(entry);
        this.#unsavedEntries.push(entry);
      }
    }
    if (position < this.end) await this.#segments.cut(position);
    this.#extents = extents;
    if (this.end > 0) {
      // What was found may be in the page cache only.
      await this.#segments.sync();
      await this.#saveEntries();
      this.#digests = undefined;
    }
    this.#durable = extents;
    this.#durableEnd = this.end;
  }

  /** Records from a position, which must be the start of one, up to the first that is damaged. */
  async *#records(position: number): AsyncGenerator<FoundRecord, void, undefined> {
    let length = SCAN_BYTES;
    for (let at = position; at < this.end; ) {
      const buffer = await this.#segments.read(at, length);
      let used = 0;
      for (;;) {
        const found = decodeRecord(buffer, used);
        if (found.kind === 'damaged') return;
        if (found.kind === 'incomplete') {
          if (used === 0 && buffer.length < length) return;
          length = Math.max(SCAN_BYTES, found.needBytes);
          break;
        }
        used = found.record.end;
        const record = decodeLogRecord(found.record);
        if (record !== undefined) yield { record, end: at + used };
      }
      at += used;
    }
  }

  async #digestStored(): Promise<StreamDigests> {
    const digests = new StreamDigests();
    for await (const { record } of this.#records(0)) if (record.case === 'chunk') digests.take([record]);
    return digests;
  }

  async #restart(): Promise<void> {
    this.#generations.advance(this.#folder);
    this.recent.clear();
    await this.#indexHandle?.close();
    this.#indexHandle = undefined;
    await rm(join(this.#folder, INDEX_FILE), { force: true });
    await this.#segments.clear();
    this.#index = new LogIndex([]);
    this.#unsavedEntries = [];
    this.#extents = new Map();
    this.#durable = new Map();
    this.#durableEnd = 0;
    this.#refused = false;
    this.#digests = new StreamDigests();
  }

  /** Syncs and closes. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.sync();
    } finally {
      await this.letGo();
    }
  }
}

/** False for a record that can't come next: left behind by a write that failed half way. */
function followsOn(extents: LogExtents, record: LogRecord): boolean {
  if (record.case !== 'chunk' && record.case !== 'gap') return true;
  const from = record.case === 'chunk' ? record.value.offset : record.value.from;
  return Number(from) === (extents.get(record.value.stream)?.length ?? 0);
}

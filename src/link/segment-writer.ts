// Appends frames to the segments of one log: begins a new segment when one is full, and syncs from time to time.
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Logger } from '../core/logger.ts';
import { syncFolder } from './folder-operations.ts';
import { type OpenFile, RecordFile } from './record-file.ts';
import { encodeSpoolFact, type SegmentHead, SPOOL_RECORD } from './spool-record.ts';
import { type LoadedLog, type Segment, segmentPath } from './spool-segment.ts';

/** How segments are written. */
export interface SegmentPolicy {
  readonly log: Logger;
  readonly openFile: OpenFile;
  /** A segment that has grown to this is followed by a new one. */
  readonly segmentBytes: number;
}

const SYNC_EVERY_BYTES = 16 * 1024 * 1024;
const SYNC_EVERY_MS = 1000;

/** One writer at a time calls `write`. The owner calls `finish`. */
export class SegmentWriter {
  readonly segments: Segment[];
  readonly #folder: string;
  readonly #policy: SegmentPolicy;
  #file: RecordFile | undefined;
  /** Folders in which something was created that no sync has covered yet. */
  readonly #unsyncedFolders = new Set<string>();
  #beginning: Promise<unknown> | undefined;
  #unsyncedBytes = 0;
  #syncTimer: NodeJS.Timeout | undefined;
  /** A full segment that is being synced and closed while the next one is written. */
  #retiring: Promise<void> | undefined;
  #retireFailure: { readonly error: unknown } | undefined;

  constructor(folder: string, policy: SegmentPolicy, loaded: LoadedLog | undefined) {
    this.#folder = folder;
    this.#policy = policy;
    this.segments = loaded?.segments ?? [];
    this.#file = loaded?.file;
  }

  get sizeBytes(): number {
    return this.segments.reduce((sum, segment) => sum + segment.sizeBytes, 0);
  }

  /** Creates the first segment of a new log in the background, so that its first bytes need not wait for that. */
  prepare(head: SegmentHead): void {
    if (this.segments.length > 0 || this.#beginning !== undefined) return;
    this.#beginning = this.#begin(head).then(
      (file) => {
        this.#file = file;
      },
      // The first write tries again, and tells.
      () => undefined,
    );
  }

  /**
   * Appends frames, all or none. `head` begins a new segment, should one be needed. Gives where they are; a head that was
   * written lies before them.
   */
  async write(frames: readonly Buffer[], head: () => SegmentHead): Promise<{ segment: number; start: number }> {
    await this.#beginning;
    const last = this.segments.at(-1);
    if (this.#file !== undefined && last !== undefined && last.sizeBytes >= this.#policy.segmentBytes) {
      await this.#retire();
    }
    this.#file ??= await this.#begin(head());
    const segment = this.segments.at(-1)!;
    const before = segment.sizeBytes;
    segment.sizeBytes = await this.#file.append(frames, 'written');
    this.#unsyncedBytes += segment.sizeBytes - before;
    if (this.#unsyncedBytes >= SYNC_EVERY_BYTES) this.#syncSoon();
    else this.#syncTimer ??= setTimeout(() => this.#syncSoon(), SYNC_EVERY_MS).unref();
    return { segment: segment.number, start: before };
  }

  /** Resolves when everything written is on disk. */
  async sync(): Promise<void> {
    this.#unsyncedBytes = 0;
    await Promise.all([this.#file?.sync(), this.#retired(), this.#syncFolders()]);
  }

  /** Syncs and closes the file. Writing again begins a new segment. May be called twice. */
  async finish(): Promise<void> {
    clearTimeout(this.#syncTimer);
    this.#syncTimer = undefined;
    this.#unsyncedBytes = 0;
    await this.#beginning;
    const file = this.#file;
    this.#file = undefined;
    await Promise.all([file?.[Symbol.asyncDispose](), this.#retired(), this.#syncFolders()]);
  }

  /** Lets go of a full segment. Its sync is waited for when the next one is full, or when everything has to be on disk. */
  async #retire(): Promise<void> {
    await this.#retired();
    const file = this.#file;
    this.#file = undefined;
    this.#unsyncedBytes = 0;
    this.#retiring = file?.[Symbol.asyncDispose]().catch((error: unknown) => {
      this.#retireFailure = { error };
    });
  }

  /** Resolves when no full segment is being synced any more; throws once if that failed. */
  async #retired(): Promise<void> {
    await this.#retiring;
    const failure = this.#retireFailure;
    this.#retireFailure = undefined;
    if (failure !== undefined) throw failure.error;
  }

  async #syncFolders(): Promise<void> {
    const folders = [...this.#unsyncedFolders];
    this.#unsyncedFolders.clear();
    try {
      await Promise.all(folders.map(syncFolder));
    } catch (error) {
      for (const folder of folders) this.#unsyncedFolders.add(folder);
      throw error;
    }
  }

  #syncSoon(): void {
    clearTimeout(this.#syncTimer);
    this.#syncTimer = undefined;
    this.sync().catch((error: unknown) => {
      this.#policy.log.warn('log spool could not be synced', { folder: this.#folder, err: error });
    });
  }

  async #begin(head: SegmentHead): Promise<RecordFile> {
    const number = (this.segments.at(-1)?.number ?? 0) + 1;
    const path = segmentPath(this.#folder, number);
    const file = await RecordFile.open(path, { openFile: this.#policy.openFile });
    try {
      const sizeBytes = await file.append([encodeSpoolFact(SPOOL_RECORD.head, head)], 'written');
      this.segments.push({ number, path, sizeBytes, start: head.streams });
      this.#unsyncedFolders.add(this.#folder);
      if (number === 1) this.#unsyncedFolders.add(dirname(this.#folder));
      return file;
    } catch (error) {
      await file[Symbol.asyncDispose]();
      await rm(path, { force: true });
      throw error;
    }
  }
}

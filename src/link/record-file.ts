// An append-only file of records (core/record-codec): the one way the link puts anything on disk. Appends that arrive
// while a write is under way share the next write and its fsync. It knows nothing of what records mean.
// It fails by rejecting the appends concerned with `limit` (disk full) or `unavailable`, after cutting a partial write
// back, and stays usable. A torn or damaged tail found at opening is moved aside and reported, never read.
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { LonglineError } from '../core/errors.ts';
import type { DecodedRecord } from '../core/record-codec.ts';
import { type FolderOperations, hostFolders } from './folder-operations.ts';
import { RecordReader } from './record-reader.ts';
import { storageError } from './storage-error.ts';

/** How far an append must have come before its promise resolves. */
export type Durability =
  /** Survives the loss of the host. */
  | 'durable'
  /** Survives the death of this process, but perhaps not of the host. */
  | 'written';

/** What opening had to give up. */
export interface RecordFileLoss {
  readonly bytes: number;
  readonly reason: 'torn' | 'damaged';
  /** Offset of the first byte given up. */
  readonly offset: number;
  /** Whether the bytes, or the first MiB of them, were put aside as `<path>.damaged`; a full disk prevents it. */
  readonly putAside: boolean;
}

/** Opens files; tests hand in one whose handles fail. */
export type OpenFile = (path: string, flags: string, mode: number) => Promise<FileHandle>;

/** How to open a record file. */
export interface RecordFileOptions {
  /** Called for every good record, in order; the body is only valid during the call. */
  readonly onRecord?: (record: DecodedRecord) => void;
  readonly openFile?: OpenFile;
  readonly folders?: FolderOperations;
  /**
   * Makes what is found, and the file's name, durable first. An earlier process may have died between write and sync: who
   * tells others what the file says must not have it taken back by a loss of power. For the same reason every append to
   * such a file is durable, and the disk's sync comes with the write instead of after it.
   */
  readonly settled?: boolean;
}

interface Append {
  readonly frames: readonly Uint8Array[];
  readonly bytes: number;
  readonly durability: Durability;
  readonly resolve: (endOffset: number) => void;
  readonly reject: (error: unknown) => void;
}

/** Most bytes that wait in memory for one file. */
const MAX_QUEUED_BYTES = 64 * 1024 * 1024;
const MAX_ROUND_BYTES = 8 * 1024 * 1024;
const MAX_ROUND_FRAMES = 1000;
/** Most bytes of a bad tail that are kept beside the file for an operator to look at. */
const MAX_QUARANTINE_BYTES = 1024 * 1024;
const FILE_MODE = 0o600;
const FLAGS = 'a+';
/** Elsewhere such a write may reach no further than the disk's own cache, unlike a sync. */
const SYNCED_FLAGS = process.platform === 'linux' ? 'as+' : FLAGS;

/** Only one RecordFile may be open on a path. The owner disposes it; appends after that are refused. */
export class RecordFile implements AsyncDisposable {
  readonly path: string;
  /** What opening gave up; undefined if the file was whole. */
  readonly loss: RecordFileLoss | undefined;
  readonly #openFile: OpenFile;
  readonly #folders: FolderOperations;
  readonly #flags: string;
  #handle: FileHandle;
  #sizeBytes: number;
  #syncedBytes: number;
  #dirtyTail = false;
  #queue: Append[] = [];
  #queuedBytes = 0;
  #work: Promise<void> = Promise.resolve();
  #draining = false;
  #closed = false;
  #failure: LonglineError | undefined;

  private constructor(
    path: string,
    handle: FileHandle,
    sizeBytes: number,
    loss: RecordFileLoss | undefined,
    {
      openFile,
      folders,
      flags,
    }: Required<Pick<RecordFileOptions, 'openFile' | 'folders'>> & { readonly flags: string },
  ) {
    this.path = path;
    this.loss = loss;
    this.#handle = handle;
    this.#sizeBytes = sizeBytes;
    this.#syncedBytes = sizeBytes;
    this.#openFile = openFile;
    this.#folders = folders;
    this.#flags = flags;
  }

  /** Opens or creates a file (0600), reads it through, and cuts off what follows the last good record. */
  static async open(path: string, options: RecordFileOptions = {}): Promise<RecordFile> {
    const { openFile = open, folders = hostFolders } = options;
    const flags = options.settled ? SYNCED_FLAGS : FLAGS;
    let handle: FileHandle | undefined;
    try {
      handle = await openFile(path, flags, FILE_MODE);
      const { size } = await handle.stat();
      const { goodBytes, reason } = await readThrough(handle, size, options.onRecord);
      let loss: RecordFileLoss | undefined;
      if (goodBytes < size) {
        const putAside = await quarantine(handle, `${path}.damaged`, goodBytes, size, openFile).then(
          () => true,
          () => false,
        );
        loss = { bytes: size - goodBytes, reason: reason ?? 'damaged', offset: goodBytes, putAside };
        await handle.truncate(goodBytes);
        await handle.datasync();
      }
      if (options.settled) {
        await handle.datasync();
        await folders.sync(dirname(path));
      }
      return new RecordFile(path, handle, goodBytes, loss, { openFile, folders, flags });
    } catch (error) {
      await handle?.close();
      throw storageError('open', path, error);
    }
  }

  /** Bytes written so far: everything below is whole records. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Why the last append failed; undefined if it didn't. */
  get failure(): LonglineError | undefined {
    return this.#failure;
  }

  /** Appends whole frames, in order, all or none of them. Resolves with the file offset after the last one. */
  append(frames: readonly Uint8Array[], durability: Durability = 'durable'): Promise<number> {
    if (this.#closed) return Promise.reject(storageError('append to', this.path, new Error('the file is closed')));
    let bytes = 0;
    for (const frame of frames) bytes += frame.length;
    if (this.#queuedBytes + bytes > MAX_QUEUED_BYTES) {
      const full = Object.assign(new Error('too many bytes wait to be written'), { code: 'ENOSPC' });
      return Promise.reject(storageError('append to', this.path, full));
    }
    this.#queuedBytes += bytes;
    return new Promise((resolve, reject) => {
      this.#queue.push({ frames, bytes, durability, resolve, reject });
      this.#kick();
    });
  }

  /** Resolves when everything appended before the call is on disk. */
  async sync(): Promise<void> {
    await this.append([], 'durable');
  }

  /**
   * Puts other content in place of the file's, atomically: after a crash either the old or the new is there. `frames` is
   * called when no write is under way and must cover every append that has resolved; those that still wait are written
   * after it. What is in both is there twice.
   */
  replace(frames: () => readonly Uint8Array[]): Promise<void> {
    const done = this.#work.then(() => this.#replace(frames));
    this.#work = done.catch(() => undefined);
    return done;
  }

  /** Writes and syncs what waits, then closes. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    while (this.#draining || this.#queue.length > 0) await this.#work;
    await this.#work;
    try {
      if (this.#syncedBytes < this.#sizeBytes) await this.#handle.datasync();
    } finally {
      await this.#handle.close();
    }
  }

  #kick(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#work = this.#work.then(() => this.#drain());
  }

  async #drain(): Promise<void> {
    try {
      while (this.#queue.length > 0) await this.#writeRound(this.#takeRound());
    } finally {
      this.#draining = false;
    }
  }

  #takeRound(): Append[] {
    let bytes = 0;
    let frames = 0;
    let count = 0;
    for (const append of this.#queue) {
      if (count > 0 && (bytes + append.bytes > MAX_ROUND_BYTES || frames + append.frames.length > MAX_ROUND_FRAMES)) {
        break;
      }
      bytes += append.bytes;
      frames += append.frames.length;
      count += 1;
    }
    return this.#queue.splice(0, count);
  }

  async #writeRound(round: readonly Append[]): Promise<void> {
    const startBytes = this.#sizeBytes;
    let bytes = 0;
    for (const append of round) bytes += append.bytes;
    try {
      await this.#cutBackIfDirty();
      this.#dirtyTail = true;
      await writeAll(
        this.#handle,
        round.flatMap((append) => append.frames),
      );
      if (round.some((append) => append.durability === 'durable')) {
        if (this.#flags === FLAGS) await this.#handle.datasync();
        this.#syncedBytes = startBytes + bytes;
      }
      this.#dirtyTail = false;
      this.#failure = undefined;
      this.#sizeBytes = startBytes + bytes;
    } catch (error) {
      // If even this fails it is tried again before the next write, which then fails instead of landing on a torn record.
      await this.#cutBackIfDirty().catch(() => undefined);
      const failure = storageError('append to', this.path, error);
      this.#failure = failure;
      for (const append of round) append.reject(failure);
      return;
    } finally {
      this.#queuedBytes -= bytes;
    }
    let end = startBytes;
    for (const append of round) {
      end += append.bytes;
      append.resolve(end);
    }
  }

  /** A failed write may have left part of itself; the next one must not land behind it. */
  async #cutBackIfDirty(): Promise<void> {
    if (!this.#dirtyTail) return;
    await this.#handle.truncate(this.#sizeBytes);
    this.#dirtyTail = false;
  }

  async #replace(frames: () => readonly Uint8Array[]): Promise<void> {
    const temporary = `${this.path}.new`;
    let next: FileHandle | undefined;
    try {
      await this.#folders.remove(temporary);
      next = await this.#openFile(temporary, this.#flags, FILE_MODE);
      const content = frames();
      await writeAll(next, content);
      await next.datasync();
      await this.#folders.rename(temporary, this.path);
      const old = this.#handle;
      this.#handle = next;
      this.#sizeBytes = content.reduce((sum, frame) => sum + frame.length, 0);
      this.#syncedBytes = this.#sizeBytes;
      this.#dirtyTail = false;
      next = undefined;
      await old.close();
      await this.#folders.sync(dirname(this.path));
    } catch (error) {
      await next?.close();
      if (next !== undefined) await this.#folders.remove(temporary);
      throw storageError('replace', this.path, error);
    }
  }
}

async function readThrough(
  handle: FileHandle,
  sizeBytes: number,
  onRecord: ((record: DecodedRecord) => void) | undefined,
): Promise<{ goodBytes: number; reason?: 'torn' | 'damaged' }> {
  const reader = new RecordReader(handle);
  for (;;) {
    const step = await reader.next(sizeBytes);
    if (step.kind === 'end') return { goodBytes: reader.offset };
    if (step.kind === 'bad') return { goodBytes: reader.offset, reason: step.reason };
    onRecord?.(step.record);
  }
}

async function quarantine(
  handle: FileHandle,
  path: string,
  from: number,
  to: number,
  openFile: OpenFile,
): Promise<void> {
  const bytes = Buffer.alloc(Math.min(to - from, MAX_QUARANTINE_BYTES));
  const { bytesRead } = await handle.read(bytes, 0, bytes.length, from);
  const target = await openFile(path, 'w', FILE_MODE);
  try {
    await target.writeFile(bytes.subarray(0, bytesRead));
  } finally {
    await target.close();
  }
}

async function writeAll(handle: FileHandle, frames: readonly Uint8Array[]): Promise<void> {
  let rest = frames.filter((frame) => frame.length > 0);
  while (rest.length > 0) {
    let { bytesWritten } = await handle.writev(rest.slice(0, MAX_ROUND_FRAMES));
    // A short write is allowed to writev(2), for example just before the disk is full.
    let whole = 0;
    while (whole < rest.length && bytesWritten >= rest[whole]!.length) bytesWritten -= rest[whole++]!.length;
    rest = rest.slice(whole);
    if (bytesWritten > 0) rest[0] = rest[0]!.subarray(bytesWritten);
  }
}

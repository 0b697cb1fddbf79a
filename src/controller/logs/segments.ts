// The segment files of one log: bytes by position, where a position counts from the log's first byte over all segments.
// A segment is named for the position it begins at. Knows nothing of records. Only the last segment is ever written to.
import { type FileHandle, mkdir, open, readdir, rename, truncate, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { LonglineError } from '../../core/errors.ts';

const SUFFIX = '.segment';
const NAME = /^(\d{16})\.segment$/;

/** Most pieces that one writev(2) takes. */
const MAX_PIECES = 1024;

interface Segment {
  readonly begins: number;
  readonly path: string;
}

/** Makes names created in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** A failed write as an error people can act on. */
export function writeError(path: string, error: unknown): LonglineError {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new LonglineError('limit', `log folder ${path}: no room left; free some or shorten the retention`, {
      cause: error,
    });
  }
  return new LonglineError('unavailable', `log folder ${path} can't be written`, { cause: error });
}

/** Segment files in one folder. The owner disposes it; a handle that was let go is opened again when needed. */
export class Segments implements AsyncDisposable {
  readonly #folder: string;
  readonly #segmentBytes: number;
  readonly #segments: Segment[];
  /** Folders in which something was created that no sync has covered yet. */
  readonly #unsyncedFolders: Set<string>;
  #end: number;
  #handle: FileHandle | undefined;

  private constructor(
    folder: string,
    segmentBytes: number,
    segments: Segment[],
    end: number,
    unsyncedFolders: readonly string[],
  ) {
    this.#folder = folder;
    this.#segmentBytes = segmentBytes;
    this.#segments = segments;
    this.#end = end;
    this.#unsyncedFolders = new Set(unsyncedFolders);
  }

  /** A folder that was just made. Its name in `parents`, like whatever is created here, is durable after the next sync. */
  static begin(folder: string, segmentBytes: number, parents: readonly string[]): Segments {
    return new Segments(folder, segmentBytes, [], 0, parents);
  }

  /**
   * Opens a folder, creating it. Segments that don't follow on are set aside under another name. An earlier process may
   * have ended before it made the folder's own name in `parents` durable.
   */
  static async open(folder: string, segmentBytes: number, parents: readonly string[] = []): Promise<Segments> {
    await mkdir(folder, { recursive: true });
    const found = (await readdir(folder))
      .map((name) => NAME.exec(name))
      .filter((match) => match !== null)
      .map((match) => ({ begins: Number(match[1]), path: join(folder, match[0]) }))
      .sort((left, right) => left.begins - right.begins);
    const segments: Segment[] = [];
    let end = 0;
    for (const segment of found) {
      if (segment.begins !== end) {
        await rename(segment.path, `${segment.path}.damaged`);
        continue;
      }
      segments.push(segment);
      end += await sizeOf(segment.path);
    }
    return new Segments(folder, segmentBytes, segments, end, [folder, ...parents]);
  }

  /** Position after the last byte. */
  get end(): number {
    return this.#end;
  }

  /** Makes the first segment of a new log. */
  async prepare(): Promise<void> {
    if (this.#segments.length === 0) await this.#roll();
  }

  /** Appends all of it or nothing. */
  async append(pieces: readonly Uint8Array[]): Promise<void> {
    try {
      const last = this.#segments.at(-1);
      if (last === undefined || this.#end - last.begins >= this.#segmentBytes) await this.#roll();
      const segment = this.#segments.at(-1)!;
      const handle = await this.#writable();
      this.#end += await writeAll(handle, pieces, this.#end - segment.begins);
    } catch (error) {
      throw writeError(this.#folder, error);
    }
  }

  /** Makes everything appended durable. */
  async sync(): Promise<void> {
    const { synced } = await this.startSync();
    await synced;
  }

  /** Begins to make everything appended so far durable; `synced` tells when it is. Appends may go on meanwhile. */
  async startSync(): Promise<{ readonly synced: Promise<void> }> {
    try {
      const handle = await this.#writable();
      const folders = [...this.#unsyncedFolders];
      this.#unsyncedFolders.clear();
      const synced = Promise.all([handle.datasync(), ...folders.map(syncFolder)]).then(
        () => undefined,
        (error: unknown) => {
          for (const folder of folders) this.#unsyncedFolders.add(folder);
          throw writeError(this.#folder, error);
        },
      );
      return { synced };
    } catch (error) {
      throw writeError(this.#folder, error);
    }
  }

  /** Bytes from `position`, up to `length` and the end of the segment; empty at the end. */
  async read(position: number, length: number): Promise<Buffer> {
    const index = this.#segments.findLastIndex((segment) => segment.begins <= position);
    const segment = this.#segments[index];
    if (segment === undefined || position >= this.#end) return Buffer.alloc(0);
    const segmentEnd = this.#segments[index + 1]?.begins ?? this.#end;
    const buffer = Buffer.allocUnsafe(Math.min(length, segmentEnd - position));
    const at = position - segment.begins;
    // Followers read where the writer writes: its handle serves them. Closing it waits for reads under way.
    if (this.#handle !== undefined && index === this.#segments.length - 1) {
      return await readUpTo(this.#handle, buffer, at);
    }
    const handle = await open(segment.path, 'r');
    try {
      return await readUpTo(handle, buffer, at);
    } finally {
      await handle.close();
    }
  }

  /** Drops everything from `position` on; whole segments behind it are set aside under another name. */
  async cut(position: number): Promise<void> {
    await this.letGo();
    for (let last = this.#segments.at(-1); last !== undefined; last = this.#segments.at(-1)) {
      if (last.begins <= position) {
        await truncate(last.path, position - last.begins);
        this.#end = position;
        return;
      }
      await rename(last.path, `${last.path}.damaged`);
      this.#segments.pop();
      this.#end = last.begins;
    }
  }

  /** Removes all segments, the last first, so that what is left after a crash is still a whole log. */
  async clear(): Promise<void> {
    await this.letGo();
    while (this.#segments.length > 0) {
      const last = this.#segments.at(-1)!;
      await unlink(last.path);
      this.#segments.pop();
      this.#end = last.begins;
    }
  }

  /** Closes the handle; the next write opens it again. */
  async letGo(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  async #roll(): Promise<void> {
    // Synced before its successor exists: only the last segment can have a damaged tail.
    if (this.#segments.length > 0) await (await this.#writable()).datasync();
    await this.letGo();
    const path = join(this.#folder, String(this.#end).padStart(16, '0') + SUFFIX);
    this.#handle = await open(path, 'w+', 0o600);
    this.#unsyncedFolders.add(this.#folder);
    this.#segments.push({ begins: this.#end, path });
  }

  async #writable(): Promise<FileHandle> {
    const last = this.#segments.at(-1);
    if (last === undefined) {
      await this.#roll();
      return this.#handle!;
    }
    this.#handle ??= await open(last.path, 'r+');
    return this.#handle;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.letGo();
  }
}

/** Writes pieces one behind the other and gives how many bytes that were. */
async function writeAll(handle: FileHandle, pieces: readonly Uint8Array[], position: number): Promise<number> {
  let written = 0;
  for (let rest = pieces; rest.length > 0; ) {
    let { bytesWritten } = await handle.writev(rest.slice(0, MAX_PIECES), position + written);
    written += bytesWritten;
    let whole = 0;
    while (whole < rest.length && bytesWritten >= rest[whole]!.length) bytesWritten -= rest[whole++]!.length;
    const [torn, ...others] = rest.slice(whole);
    rest = torn === undefined ? [] : [torn.subarray(bytesWritten), ...others];
  }
  return written;
}

async function readUpTo(handle: FileHandle, buffer: Buffer, position: number): Promise<Buffer> {
  const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
  return buffer.subarray(0, bytesRead);
}

async function sizeOf(path: string): Promise<number> {
  const handle = await open(path, 'r');
  try {
    return (await handle.stat()).size;
  } finally {
    await handle.close();
  }
}

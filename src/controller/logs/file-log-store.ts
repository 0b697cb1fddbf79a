// Logs as files below one folder: shard/log id/attempt/. Keeps a bounded number of logs in memory and files open. Knows
// nothing of agents or jobs. One process at a time may write to the folder.
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { GapReason, LogGapSchema } from '#gen/longline/v1/log_pb.js';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { FileLogWriter } from './file-log-writer.ts';
import { Generations } from './generations.ts';
import { attemptsAmong, type CountedLog, census, OldestLogs } from './log-census.ts';
import { FileLogCursor } from './log-cursor.ts';
import { LogFile } from './log-file.ts';
import type { LogCursor, LogKey, LogRange, LogStore, LogWriter } from './log-store.ts';

/** Bounds of a FileLogStore. */
export interface FileLogStoreOptions {
  /** Size after which a new segment is begun. */
  readonly segmentBytes?: number;
  /** Logs kept in memory while nobody uses them. */
  readonly maxIdleLogs?: number;
  /** Hears how many bytes were appended. */
  readonly onAppended?: (bytes: number) => void;
}

const LOG_ID = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/;

/** Logs that are considered at once when the oldest have to go. */
const CANDIDATES = 4096;
/** A log of no more bytes may be what is left of one that was pruned. */
const HARDLY_ANYTHING_BYTES = 4096;
/** When bytes have to go, this part of the limit is made free, so that it isn't the same again with the next write. */
const SPARE_PART = 16;

/** Log store on a folder. */
export class FileLogStore implements LogStore {
  readonly #root: string;
  readonly #log: Logger;
  readonly #segmentBytes: number;
  readonly #maxIdleLogs: number;
  readonly #onAppended: (bytes: number) => void;
  /** In order of use, oldest first. */
  readonly #files = new Map<string, Promise<LogFile>>();
  readonly #generations = new Generations();
  /** Removed while in use: whoever uses one may have opened its files again. */
  readonly #removed = new WeakSet<LogFile>();
  /** Bytes that may be appended before it is worth counting what there is. */
  #untilCountedBytes = 0;

  constructor(root: string, log: Logger, options: FileLogStoreOptions = {}) {
    this.#root = root;
    this.#log = log;
    this.#segmentBytes = options.segmentBytes ?? 16 * 1024 * 1024;
    this.#maxIdleLogs = options.maxIdleLogs ?? 256;
    this.#onAppended = options.onAppended ?? (() => undefined);
  }

  async writer(key: LogKey): Promise<LogWriter> {
    const file = await this.#acquire(key);
    const grew = (bytes: number) => {
      this.#untilCountedBytes -= bytes;
      this.#onAppended(bytes);
    };
    return new FileLogWriter(file, grew, () => this.#release(file));
  }

  async cursor(key: LogKey, range: LogRange): Promise<LogCursor | undefined> {
    if (!existsSync(this.#folder(key))) return undefined;
    return await FileLogCursor.open((use) => this.#borrow(key, use), range);
  }

  async latestAttempt(logId: string): Promise<number | undefined> {
    const folder = this.#logFolder(logId);
    // Followers ask before there is one; an error with a stack would be made for each that asks.
    if (!existsSync(folder)) return undefined;
    const attempts = attemptsAmong(readdirSync(folder));
    return attempts.length === 0 ? undefined : Math.max(...attempts);
  }

  async delete(logId: string): Promise<void> {
    const folder = this.#logFolder(logId);
    for (const [path, opening] of [...this.#files]) {
      if (!path.startsWith(`${folder}/`)) continue;
      this.#files.delete(path);
      const file = await opening;
      this.#removed.add(file);
      await file[Symbol.asyncDispose]();
    }
    await rm(folder, { recursive: true, force: true });
  }

  async prune(beforeMs: number, signal?: AbortSignal, looked?: () => void): Promise<number> {
    let pruned = 0;
    for await (const log of census(this.#root)) {
      if (signal?.aborted) return pruned;
      if (log.writtenAtMs < beforeMs && (await this.#pruned(log))) pruned += 1;
      looked?.();
    }
    return pruned;
  }

  async shrink(maxBytes: number, signal?: AbortSignal, looked?: () => void): Promise<number> {
    let pruned = 0;
    while (this.#untilCountedBytes <= 0 && signal?.aborted !== true) {
      const oldest = new OldestLogs(CANDIDATES);
      let total = 0;
      this.#untilCountedBytes = 0;
      for await (const log of census(this.#root)) {
        total += log.bytes;
        if (log.bytes > HARDLY_ANYTHING_BYTES) oldest.add(log);
        if (signal?.aborted) return pruned;
        looked?.();
      }
      // What was appended since the count began is in neither.
      if (total <= maxBytes) this.#untilCountedBytes += maxBytes - total + 1;
      else {
        const gone = await this.#giveAway(oldest.oldestFirst(), total - roomFor(maxBytes), signal, looked);
        pruned += gone;
        // All that is left is in use, or small: counting again at once would find the same.
        if (gone === 0) this.#untilCountedBytes += Math.ceil(maxBytes / SPARE_PART);
      }
    }
    return pruned;
  }

  /** Prunes logs until about `bytes` are free. How many logs that were. */
  async #giveAway(
    oldestFirst: readonly CountedLog[],
    bytes: number,
    signal?: AbortSignal,
    looked?: () => void,
  ): Promise<number> {
    let pruned = 0;
    let left = bytes;
    for (const log of oldestFirst) {
      if (left <= 0 || signal?.aborted) break;
      looked?.();
      if (!(await this.#pruned(log))) continue;
      left -= log.bytes;
      pruned += 1;
    }
    return pruned;
  }

  /** False if it is in use, or can't be pruned, which is told: others shall not have to stay for it. */
  async #pruned(key: LogKey): Promise<boolean> {
    try {
      const file = await this.#files.get(this.#folder(key))?.catch(() => undefined);
      return (file === undefined || file.users === 0) && (await this.#replaceByGaps(key));
    } catch (error) {
      this.#log.error('the bytes of a log could not be removed', { ...logName(key), err: describeError(error) });
      return false;
    }
  }

  async #replaceByGaps(key: LogKey): Promise<boolean> {
    const folder = this.#folder(key);
    const replacement = `${folder}.pruned`;
    return await this.#borrow(key, async (file) => {
      const { end } = file;
      await this.#writePruned(file, replacement);
      // Somebody uses it now, or wrote to it and left.
      if (file.users > 1 || file.end !== end) {
        await rm(replacement, { recursive: true, force: true });
        return false;
      }
      // Whoever asks for the log meanwhile waits for the new one.
      this.#files.set(folder, this.#swap(file, folder, replacement));
      await this.#files.get(folder);
      return true;
    });
  }

  async #writePruned(file: LogFile, replacement: string): Promise<void> {
    await rm(replacement, { recursive: true, force: true });
    await using written = await LogFile.open(replacement, this.#segmentBytes, this.#generations);
    const gaps = [...file.durableOffsets()].map(([stream, length]) =>
      create(LogGapSchema, { stream, from: 0n, to: BigInt(length), reason: GapReason.RETENTION }),
    );
    await written.append({ chunks: [], gaps });
    if (file.storedClose !== undefined) await written.adoptClose(file.storedClose);
    await written.sync();
  }

  async #swap(file: LogFile, folder: string, replacement: string): Promise<LogFile> {
    this.#generations.advance(folder);
    await file[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
    await rename(replacement, folder);
    return await LogFile.open(folder, this.#segmentBytes, this.#generations);
  }

  async #borrow<T>(key: LogKey, use: (file: LogFile) => Promise<T>): Promise<T> {
    const file = await this.#acquire(key);
    try {
      return await use(file);
    } finally {
      this.#release(file);
    }
  }

  async #acquire(key: LogKey): Promise<LogFile> {
    const folder = this.#folder(key);
    for (;;) {
      const opening = this.#files.get(folder) ?? this.#open(folder);
      // Last in the map is last to be forgotten.
      this.#files.delete(folder);
      this.#files.set(folder, opening);
      try {
        const file = await opening;
        // Between the promise's end and this line another may have taken its place, which is not seen to by `users`.
        if (this.#files.get(folder) !== opening) continue;
        file.users += 1;
        return file;
      } catch (error) {
        if (this.#files.get(folder) === opening) this.#files.delete(folder);
        throw error;
      }
    }
  }

  async #open(folder: string): Promise<LogFile> {
    try {
      if (!existsSync(folder)) {
        // A prune that was interrupted after it removed the old log.
        if (existsSync(`${folder}.pruned`)) await rename(`${folder}.pruned`, folder);
        else return LogFile.begin(folder, this.#segmentBytes, this.#generations, createFolder(folder));
      }
      const parents = [dirname(folder), dirname(dirname(folder)), this.#root];
      return await LogFile.open(folder, this.#segmentBytes, this.#generations, parents);
    } catch (error) {
      if (error instanceof LonglineError) throw error;
      throw new LonglineError('unavailable', `log folder ${folder} can't be opened`, { cause: error });
    }
  }

  #release(file: LogFile): void {
    file.users -= 1;
    if (file.users === 0 && this.#removed.has(file)) {
      void file
        .letGo()
        .catch((error: unknown) => this.#log.warn('a removed log stays open', { err: describeError(error) }));
    }
    if (this.#files.size > this.#maxIdleLogs) void this.#shrink();
  }

  async #shrink(): Promise<void> {
    for (const [folder, opening] of [...this.#files]) {
      if (this.#files.size <= this.#maxIdleLogs) return;
      const file = await opening.catch(() => undefined);
      if (file === undefined) continue;
      if (file.users === 0) await this.#forget(folder);
      else await file.letGo();
    }
  }

  async #forget(folder: string): Promise<void> {
    const opening = this.#files.get(folder);
    this.#files.delete(folder);
    try {
      await (await opening)?.[Symbol.asyncDispose]();
    } catch (error) {
      this.#log.error('log could not be closed', { folder, err: describeError(error) });
    }
  }

  #logFolder(logId: string): string {
    if (!LOG_ID.test(logId)) {
      throw new LonglineError(
        'invalid',
        `log id '${logId.slice(0, 140)}' must be 1 to 128 characters of [A-Za-z0-9._-]`,
      );
    }
    return join(this.#root, logId.slice(-2).padStart(2, '0').replaceAll('.', '_'), logId);
  }

  #folder({ logId, attempt }: LogKey): string {
    if (!Number.isInteger(attempt) || attempt < 1) {
      throw new LonglineError('invalid', `attempt ${attempt} of log ${logId} must be 1 or more`);
    }
    return join(this.#logFolder(logId), String(attempt));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const folder of [...this.#files.keys()]) await this.#forget(folder);
  }
}

/** Makes the folder of a new log, at once: a job's first byte waits for it. Gives the folders that a sync has to cover. */
function createFolder(folder: string): readonly string[] {
  const topmost = mkdirSync(folder, { recursive: true, mode: 0o700 }) ?? folder;
  const parents: string[] = [];
  for (let child = folder; child.length >= topmost.length; child = dirname(child)) parents.push(dirname(child));
  return parents;
}

function roomFor(maxBytes: number): number {
  return maxBytes - Math.floor(maxBytes / SPARE_PART);
}

function logName({ logId, attempt }: LogKey): { readonly logId: string; readonly attempt: number } {
  return { logId, attempt };
}

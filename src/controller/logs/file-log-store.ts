// Logs as files below one folder: shard/log id/attempt/. Keeps a bounded number of logs in memory and files open. Knows
// nothing of agents or jobs. One process at a time may write to the folder.
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { GapReason, type LogClose, LogGapSchema } from '#gen/longline/v1/log_pb.js';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { Generations } from './generations.ts';
import { FileLogCursor } from './log-cursor.ts';
import { LogFile } from './log-file.ts';
import type { LogAppend, LogCursor, LogKey, LogRange, LogStore, LogWriter } from './log-store.ts';

/** Bounds of a FileLogStore. */
export interface FileLogStoreOptions {
  /** Size after which a new segment is begun. */
  readonly segmentBytes?: number;
  /** Logs kept in memory while nobody uses them. */
  readonly maxIdleLogs?: number;
}

const LOG_ID = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/;
const ATTEMPT = /^[1-9]\d{0,9}$/;

/** Log store on a folder. */
export class FileLogStore implements LogStore {
  readonly #root: string;
  readonly #log: Logger;
  readonly #segmentBytes: number;
  readonly #maxIdleLogs: number;
  /** In order of use, oldest first. */
  readonly #files = new Map<string, Promise<LogFile>>();
  readonly #generations = new Generations();

  constructor(root: string, log: Logger, options: FileLogStoreOptions = {}) {
    this.#root = root;
    this.#log = log;
    this.#segmentBytes = options.segmentBytes ?? 16 * 1024 * 1024;
    this.#maxIdleLogs = options.maxIdleLogs ?? 256;
  }

  async writer(key: LogKey): Promise<LogWriter> {
    const file = await this.#acquire(key);
    return new FileLogWriter(file, () => this.#release(file));
  }

  async cursor(key: LogKey, range: LogRange): Promise<LogCursor | undefined> {
    if (!existsSync(this.#folder(key))) return undefined;
    return await FileLogCursor.open((use) => this.#borrow(key, use), range);
  }

  async latestAttempt(logId: string): Promise<number | undefined> {
    const folder = this.#logFolder(logId);
    // Followers ask before there is one; an error with a stack would be made for each that asks.
    if (!existsSync(folder)) return undefined;
    const attempts = readdirSync(folder)
      .filter((name) => ATTEMPT.test(name))
      .map(Number);
    return attempts.length === 0 ? undefined : Math.max(...attempts);
  }

  async delete(logId: string): Promise<void> {
    const folder = this.#logFolder(logId);
    for (const [path, opening] of [...this.#files]) {
      if (!path.startsWith(`${folder}/`)) continue;
      this.#files.delete(path);
      const file = await opening;
      await file[Symbol.asyncDispose]();
    }
    await rm(folder, { recursive: true, force: true });
  }

  async prune(beforeMs: number, signal?: AbortSignal): Promise<number> {
    let pruned = 0;
    for (const shard of await readdir(this.#root).catch(() => [])) {
      for (const logId of await readdir(join(this.#root, shard))) {
        for (const attempt of (await readdir(join(this.#root, shard, logId))).filter((name) => ATTEMPT.test(name))) {
          if (signal?.aborted) return pruned;
          const key = { logId, attempt: Number(attempt) };
          pruned += (await this.#pruneIfOld(key, beforeMs)) ? 1 : 0;
        }
      }
    }
    return pruned;
  }

  async #pruneIfOld(key: LogKey, beforeMs: number): Promise<boolean> {
    const folder = this.#folder(key);
    if (this.#files.has(folder) || !(await wroteBefore(folder, beforeMs))) return false;
    const replacement = `${folder}.pruned`;
    return await this.#borrow(key, async (file) => {
      await this.#writePruned(file, replacement);
      if (file.users > 1) {
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
    let opening = this.#files.get(folder);
    if (opening === undefined) {
      opening = this.#open(folder);
    } else this.#files.delete(folder);
    // Last in the map is last to be forgotten.
    this.#files.set(folder, opening);
    try {
      const file = await opening;
      file.users += 1;
      return file;
    } catch (error) {
      this.#files.delete(folder);
      throw error;
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

class FileLogWriter implements LogWriter {
  readonly #file: LogFile;
  #onRelease: (() => void) | undefined;

  constructor(file: LogFile, onRelease: () => void) {
    this.#file = file;
    this.#onRelease = onRelease;
  }

  get closed(): boolean {
    return this.#file.closed;
  }

  durableOffsets(): ReadonlyMap<string, number> {
    return this.#file.durableOffsets();
  }

  async append(batch: LogAppend): Promise<boolean> {
    return await this.#file.append(batch);
  }

  async sync(): Promise<void> {
    await this.#file.sync();
  }

  async close(close: LogClose): Promise<void> {
    await this.#file.close(close);
  }

  release(): void {
    this.#onRelease?.();
    this.#onRelease = undefined;
  }
}

/** Makes the folder of a new log, at once: a job's first byte waits for it. Gives the folders that a sync has to cover. */
function createFolder(folder: string): readonly string[] {
  const topmost = mkdirSync(folder, { recursive: true, mode: 0o700 }) ?? folder;
  const parents: string[] = [];
  for (let child = folder; child.length >= topmost.length; child = dirname(child)) parents.push(dirname(child));
  return parents;
}

async function wroteBefore(folder: string, beforeMs: number): Promise<boolean> {
  for (const name of await readdir(folder)) {
    if ((await stat(join(folder, name))).mtimeMs >= beforeMs) return false;
  }
  return true;
}

// Output on its way to the controller, in segment files on disk, so that a slow or absent controller never slows a
// producer and memory stays flat. It is bounded: what the controller has is freed first, oldest first; what still doesn't
// fit is declared as a gap. It knows nothing of the link; the shipper reads it. Damage found on disk is reported per log.
import { mkdir, open as openFileOnDisk, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, invalid } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { OpenFile, RecordFileLoss } from './record-file.ts';
import type { SpoolGapReason } from './spool-record.ts';
import { loadLog } from './spool-segment.ts';
import { type LogName, SpooledLog, type SpoolHost } from './spooled-log.ts';
import { storageError } from './storage-error.ts';
import { Wakeup } from './wakeup.ts';

/** Output stream of a job. */
export type StreamName = 'stdout' | 'stderr';

/** Bounds of a spool. */
export interface SpoolLimits {
  /** All logs together, bytes on disk. */
  readonly maxBytes: number;
  /** One log, bytes on disk. */
  readonly maxLogBytes: number;
  /** A segment that has grown to this is followed by a new one; the unit of freeing. */
  readonly segmentBytes: number;
}

/** What a spool is opened with. */
export interface SpoolOptions {
  /** Folder that the spool has to itself; made if it is missing (0700). */
  readonly folder: string;
  readonly log: Logger;
  readonly limits: SpoolLimits;
  readonly openFile?: OpenFile;
}

/** The producer's view of one log; the shape of OutputLog in src/capabilities/jobs/ports.ts. */
export interface ProducerLog {
  length(stream: StreamName): number;
  append(piece: { readonly stream: StreamName; readonly data: Uint8Array }, capturedAtMs: number): Promise<void>;
  gap(stream: StreamName, bytes: number, reason: SpoolGapReason): Promise<void>;
  close(): Promise<readonly { readonly stream: StreamName; readonly lengthBytes: number; readonly gapBytes: number }[]>;
}

const LOG_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const FOLDER = /^([A-Za-z0-9][A-Za-z0-9._-]{0,127})~(\d{1,9})$/;
/** Output kept in memory for the shipper, all logs together. */
const FRESH_BYTES = 8 * 1024 * 1024;
/** What a log is taken to cost beside its bytes, so that their number is bounded too. */
const LOG_OVERHEAD_BYTES = 16 * 1024;

/** One per data folder. The owner disposes it; logs that are open then go on in a later process. */
export class LogSpool implements AsyncDisposable {
  readonly #options: SpoolOptions;
  readonly #host: SpoolHost;
  readonly #logs = new Map<string, SpooledLog>();
  readonly #charged = new Map<SpooledLog, number>();
  readonly #losses = new Map<string, readonly RecordFileLoss[]>();
  readonly #opened = new Wakeup();
  readonly #lostBytes = new Map<SpoolGapReason, number>();
  #totalBytes = 0;
  #storedBytes = 0;
  #failure: string | undefined;
  #listener: ((log: SpooledLog) => void) | undefined;

  private constructor(options: SpoolOptions) {
    this.#options = options;
    this.#host = {
      log: options.log,
      openFile: options.openFile ?? openFileOnDisk,
      segmentBytes: options.limits.segmentBytes,
      freshBudget: { maxBytes: FRESH_BYTES, usedBytes: 0 },
      makeRoom: (log, bytes) => this.#makeRoom(log, bytes),
      refused: async (_log, error) => {
        this.#failure = describeError(error);
        await this.#freeOldest();
      },
      lost: (bytes, reason) => this.#lostBytes.set(reason, (this.#lostBytes.get(reason) ?? 0) + bytes),
      stored: (bytes) => {
        this.#storedBytes += bytes;
      },
      taken: () => {
        this.#failure = undefined;
      },
      written: (log) => {
        this.#charge(log, log.sizeBytes);
        this.#listener?.(log);
      },
    };
  }

  /** Opens a spool and finds the logs that earlier processes left in it. */
  static async open(options: SpoolOptions): Promise<LogSpool> {
    const spool = new LogSpool(options);
    const { folder } = options;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      for (const entry of (await readdir(folder)).sort()) await spool.#load(entry);
    } catch (error) {
      throw storageError('open', folder, error);
    }
    return spool;
  }

  /** Bytes held on disk, with an allowance for each log. */
  get sizeBytes(): number {
    return this.#totalBytes;
  }

  /** Bytes declared lost since the start, by why. */
  get lostBytes(): ReadonlyMap<SpoolGapReason, number> {
    return this.#lostBytes;
  }

  /** Bytes that the controller has stored since the start. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  /** Why the last write failed, as long as none succeeded since. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Bytes lost to damage on disk, found when the spool was opened, by log id. */
  get losses(): ReadonlyMap<string, readonly RecordFileLoss[]> {
    return this.#losses;
  }

  /** All logs, oldest first. */
  logs(): Iterable<SpooledLog> {
    return this.#logs.values();
  }

  /** Resolves once there is a log, or the signal aborts. One waiter at a time. */
  async whenFilled(signal: AbortSignal): Promise<void> {
    while (this.#logs.size === 0 && !signal.aborted) await this.#opened.wait(signal);
  }

  /** Calls back whenever a log was opened, can be read further or was closed. One listener; undefined takes it away. */
  onWritten(listener: ((log: SpooledLog) => void) | undefined): void {
    this.#listener = listener;
  }

  /** Opens or reopens a log for its producer; a reopened one goes on where the bytes on disk end. */
  async open(id: string, kind = 'job', attempt = 1): Promise<ProducerLog> {
    if (!LOG_ID.test(id)) {
      const description = `"${id.slice(0, 64)}" is no log id; give 1 to 128 characters of [A-Za-z0-9._-]`;
      throw invalid([{ field: 'log_id', description }]);
    }
    const key = `${id}~${attempt}`;
    let log = this.#logs.get(key);
    if (log === undefined) {
      log = new SpooledLog({ id, attempt, kind }, join(this.#options.folder, key), this.#host, undefined);
      this.#logs.set(key, log);
      this.#opened.ring();
      try {
        // Durable with the first sync of the log: a job waits for this.
        await mkdir(log.folder, { mode: 0o700 });
      } catch (error) {
        this.#logs.delete(key);
        throw storageError('create', log.folder, error);
      }
      this.#charge(log, 0);
    }
    await log.prepare();
    // The controller gets ready for it while its container still starts.
    this.#listener?.(log);
    return log as ProducerLog;
  }

  /** Closes logs that nobody will go on with: no command of `liveIds`, and nothing that `kept` knows. */
  async closeOrphans(liveIds: ReadonlySet<string>, kept: (name: LogName) => boolean = () => false): Promise<void> {
    for (const log of [...this.#logs.values()]) {
      if (log.summary === undefined && !liveIds.has(log.name.id) && !kept(log.name)) await log.close();
    }
  }

  /** Removes a log with its files: the controller has it, or nobody can have it any more. */
  async remove(log: SpooledLog): Promise<void> {
    this.#logs.delete(keyOf(log.name));
    await log.release();
    this.#totalBytes -= this.#charged.get(log) ?? 0;
    this.#charged.delete(log);
    await rm(log.folder, { recursive: true, force: true });
  }

  /** Writes what waits and closes all files. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener = undefined;
    for (const log of this.#logs.values()) {
      await log.release().catch((error: unknown) => {
        this.#options.log.error('log could not be written completely', { logId: log.name.id, err: error });
      });
    }
  }

  async #load(entry: string): Promise<void> {
    const [, id, attempt] = FOLDER.exec(entry) ?? [];
    if (id === undefined) return;
    const folder = join(this.#options.folder, entry);
    const loaded = await loadLog(folder, this.#host.openFile);
    if (loaded === undefined) {
      await rm(folder, { recursive: true, force: true });
      return;
    }
    if (loaded.losses.length > 0) {
      this.#losses.set(id, loaded.losses);
      this.#options.log.error('log spool was damaged; recovered to the last good record', {
        logId: id,
        losses: loaded.losses,
      });
    }
    const name: LogName = { id, attempt: Number(attempt), kind: loaded.head.kind };
    const log = new SpooledLog(name, folder, this.#host, loaded);
    if (log.summary !== undefined) await loaded.file[Symbol.asyncDispose]();
    this.#logs.set(entry, log);
    this.#charge(log, log.sizeBytes);
  }

  async #makeRoom(log: SpooledLog, bytes: number): Promise<boolean> {
    const { maxBytes, maxLogBytes } = this.#options.limits;
    for (;;) {
      const own = this.#charged.get(log) ?? 0;
      const logFull = own + bytes > maxLogBytes;
      if (!logFull && this.#totalBytes + bytes <= maxBytes) {
        // Charged at once, so that a whole round can't slip through; set right when it is written.
        this.#charge(log, own - LOG_OVERHEAD_BYTES + bytes);
        return true;
      }
      const freed = logFull ? await this.#free(log) : await this.#freeOldest();
      if (!freed) return false;
    }
  }

  async #freeOldest(): Promise<boolean> {
    for (const log of this.#logs.values()) if (await this.#free(log)) return true;
    return false;
  }

  async #free(log: SpooledLog): Promise<boolean> {
    try {
      const freed = await log.freeAcknowledged();
      this.#charge(log, (this.#charged.get(log) ?? 0) - LOG_OVERHEAD_BYTES - freed);
      return freed > 0;
    } catch (error) {
      this.#options.log.warn('acknowledged output could not be freed', { logId: log.name.id, err: error });
      return false;
    }
  }

  #charge(log: SpooledLog, sizeBytes: number): void {
    if (!this.#logs.has(keyOf(log.name))) return;
    const charge = sizeBytes + LOG_OVERHEAD_BYTES;
    this.#totalBytes += charge - (this.#charged.get(log) ?? 0);
    this.#charged.set(log, charge);
  }
}

function keyOf(name: LogName): string {
  return `${name.id}~${name.attempt}`;
}

// The agent's way to the audit file: group commit, with the event loop free while the disk works. Appends that come while
// one commit is under way share the next. What was appended is durable when its promise resolves; a failed append left no
// trace, but for one whose sync failed: whether that is on the disk nobody knows, so nothing more is taken.
import { LonglineError } from '../../core/errors.ts';
import { AuditFile, type AuditFileOptions } from './audit-file.ts';
import type { AuditRow, ChainHead, CheckpointRow } from './audit-rows.ts';

/** Most records that wait for a commit; more are refused. */
const MAX_WAITING = 8192;
/** Most records in one transaction. */
const MAX_BATCH = 256;
const SYNC_LIMIT_MS = 30_000;

interface WaitingAppend {
  readonly rows: readonly AuditRow[];
  readonly resolve: (head: ChainHead) => void;
  readonly reject: (error: unknown) => void;
}

/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const DAMAGED = new Set([11, 26]);
const SQLITE_FULL = 13;

/** An open audit file. Dispose to flush and close it. */
export class AuditStore implements AsyncDisposable {
  readonly #file: AuditFile;
  readonly #path: string;
  readonly #waiting: WaitingAppend[] = [];
  #waitingRecords = 0;
  #flushing: Promise<void> | undefined;
  #head: ChainHead;
  #failure: LonglineError | undefined;
  #closed: Promise<void> | undefined;

  private constructor(path: string, file: AuditFile) {
    this.#path = path;
    this.#file = file;
    this.#head = file.head;
  }

  /** Opens or makes the file. Throws `unavailable` with what is wrong and what mends it. */
  static async open(options: AuditFileOptions): Promise<AuditStore> {
    let file: AuditFile;
    try {
      file = new AuditFile(options);
    } catch (error) {
      throw explain(options.path, error);
    }
    const store = new AuditStore(options.path, file);
    try {
      await store.#sync();
      return store;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The end of the chain, as far as it is durable. */
  get head(): ChainHead {
    return this.#head;
  }

  /**
   * Appends records in order, all in one commit. Resolves with a head that covers them once they are durable. Throws
   * `limit` if too many wait or the disk is full, `unavailable` if the file can't be written.
   */
  append(rows: readonly AuditRow[]): Promise<ChainHead> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#waitingRecords + rows.length > MAX_WAITING) {
      return Promise.reject(
        new LonglineError(
          'limit',
          `${this.#waitingRecords} audit records wait for the disk; at most ${MAX_WAITING} may`,
        ),
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<ChainHead>();
    this.#waiting.push({ rows, resolve, reject });
    this.#waitingRecords += rows.length;
    // From a microtask, so that appends of the same turn share the commit.
    this.#flushing ??= Promise.resolve().then(() => this.#flush());
    return promise;
  }

  /** Stores a signed head. */
  async addCheckpoint(row: CheckpointRow): Promise<void> {
    this.#call((file) => file.addCheckpoint(row));
    await this.#sync();
  }

  /** Marks checkpoints up to `sequence` as held by the controller. One that is forgotten is only offered again. */
  async acknowledge(sequence: number): Promise<void> {
    this.#call((file) => file.acknowledge(sequence));
  }

  /** The newest checkpoints that the controller hasn't acknowledged, oldest first. */
  async unacknowledged(limit: number): Promise<readonly CheckpointRow[]> {
    return this.#call((file) => file.unacknowledged(limit));
  }

  /** Sequence of the newest stored checkpoint; 0 if there is none. */
  async lastCheckpoint(): Promise<number> {
    return this.#call((file) => file.lastCheckpoint());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    await this.#closed;
  }

  async #close(): Promise<void> {
    // Each flush takes all that waits at its end.
    while (this.#flushing !== undefined) await this.#flushing;
    this.#failure ??= new LonglineError('unavailable', `audit log ${this.#path}: it is closed; restart the agent`);
    await this.#file.close();
  }

  async #flush(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#takeBatch();
      const rows = batch.flatMap((append) => append.rows);
      try {
        const head = this.#call((file) => file.append(rows));
        await this.#sync();
        this.#head = head;
        for (const append of batch) append.resolve(head);
      } catch (error) {
        for (const append of batch) append.reject(error);
      }
      this.#waitingRecords -= rows.length;
    }
    this.#flushing = undefined;
  }

  #takeBatch(): WaitingAppend[] {
    let count = 0;
    let records = 0;
    for (const append of this.#waiting) {
      if (count > 0 && records + append.rows.length > MAX_BATCH) break;
      records += append.rows.length;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  #call<T>(work: (file: AuditFile) => T): T {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      return work(this.#file);
    } catch (error) {
      throw explain(this.#path, error);
    }
  }

  async #sync(): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>();
    const limit = setTimeout(
      () => reject(new Error(`the disk did not answer within ${SYNC_LIMIT_MS / 1000}s`)),
      SYNC_LIMIT_MS,
    );
    try {
      await Promise.race([this.#file.sync(), promise]);
    } catch (cause) {
      const why = `${(cause as Error).message}; restart the agent`;
      this.#failure ??= new LonglineError('unavailable', `audit log ${this.#path}: ${why}`, { cause });
      throw this.#failure;
    } finally {
      clearTimeout(limit);
    }
  }
}

function explain(path: string, thrown: unknown): LonglineError {
  const code = ((thrown as { errcode?: number }).errcode ?? 0) & 0xff;
  if (code === SQLITE_FULL) return new LonglineError('limit', `no room for the audit log ${path}; free disk space`);
  const mend = DAMAGED.has(code) ? '; restore it, or move it away to begin anew' : '';
  return new LonglineError('unavailable', `audit log ${path}: ${(thrown as Error).message}${mend}`);
}

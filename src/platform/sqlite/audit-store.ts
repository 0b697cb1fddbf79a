// The agent's end of the audit file: group commit without ever blocking the event loop. Appends that come while one commit
// is under way share the next. What was appended is durable when its promise resolves; a failed append left no trace.
import { Worker } from 'node:worker_threads';
import { LonglineError } from '../../core/errors.ts';
import type { AuditReply, AuditRequest, AuditRow, ChainHead, CheckpointRow } from './audit-protocol.ts';

/** Most records that wait for a commit; more are refused. */
const MAX_WAITING = 8192;
/** Most records in one transaction. */
const MAX_BATCH = 256;
/** Most requests that wait for the thread beside appends. */
const MAX_REQUESTS = 256;
const REQUEST_LIMIT_MS = 30_000;

/** How a store is opened. */
export interface AuditStoreOptions {
  readonly path: string;
  /** Id of the chain if the file is new. */
  readonly newChainId: string;
  /** Ed25519 public key whose checkpoints go with this chain. */
  readonly publicKey: Uint8Array;
}

interface WaitingAppend {
  readonly rows: readonly AuditRow[];
  readonly resolve: (head: ChainHead) => void;
  readonly reject: (error: unknown) => void;
}

interface SentRequest {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly limit: NodeJS.Timeout;
}

/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const DAMAGED = new Set([11, 26]);
const SQLITE_FULL = 13;

/** An open audit file. Dispose to flush and close it. */
export class AuditStore implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #path: string;
  readonly #sent: SentRequest[] = [];
  readonly #waiting: WaitingAppend[] = [];
  #waitingRecords = 0;
  #flushing = false;
  #head: ChainHead | undefined;
  #failure: LonglineError | undefined;
  #closed: Promise<void> | undefined;

  private constructor(path: string) {
    this.#path = path;
    this.#worker = new Worker(new URL('./audit-worker.ts', import.meta.url), {
      name: 'longline-audit',
      resourceLimits: { maxOldGenerationSizeMb: 128 },
    });
    this.#worker.on('message', (reply: AuditReply) => this.#onReply(reply));
    this.#worker.on('error', (error: Error) => this.#fail(error.message, error));
    this.#worker.on('exit', () => this.#fail('its thread has ended'));
  }

  /** Opens or makes the file. Throws `unavailable` with what is wrong and what mends it. */
  static async open(options: AuditStoreOptions): Promise<AuditStore> {
    const store = new AuditStore(options.path);
    try {
      store.#head = (await store.#request({ kind: 'open', ...options })) as ChainHead;
      return store;
    } catch (error) {
      await store.#worker.terminate();
      throw error;
    }
  }

  /** The end of the chain, as far as it is durable. */
  get head(): ChainHead {
    return this.#head!;
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
    if (!this.#flushing) {
      this.#flushing = true;
      // Appends of the same turn share the commit.
      queueMicrotask(() => void this.#flush());
    }
    return promise;
  }

  /** Stores a signed head. */
  async addCheckpoint(row: CheckpointRow): Promise<void> {
    await this.#request({ kind: 'checkpoint', row });
  }

  /** Marks checkpoints up to `sequence` as held by the controller. */
  async acknowledge(sequence: number): Promise<void> {
    await this.#request({ kind: 'acknowledge', sequence });
  }

  /** The newest checkpoints that the controller hasn't acknowledged, oldest first. */
  async unacknowledged(limit: number): Promise<readonly CheckpointRow[]> {
    return (await this.#request({ kind: 'unacknowledged', limit })) as readonly CheckpointRow[];
  }

  /** Sequence of the newest stored checkpoint; 0 if there is none. */
  async lastCheckpoint(): Promise<number> {
    return (await this.#request({ kind: 'last_checkpoint' })) as number;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    await this.#closed;
  }

  async #close(): Promise<void> {
    try {
      // Answered in order: what was appended before is durable by then.
      while (this.#waitingRecords > 0 && this.#failure === undefined) await this.#request({ kind: 'last_checkpoint' });
      if (this.#failure === undefined) await this.#request({ kind: 'close' });
    } catch (error) {
      this.#fail('it could not be closed', error);
    } finally {
      await this.#worker.terminate();
    }
  }

  async #flush(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#takeBatch();
      const rows = batch.flatMap((append) => append.rows);
      try {
        const head = (await this.#request({ kind: 'append', rows })) as ChainHead;
        this.#head = head;
        for (const append of batch) append.resolve(head);
      } catch (error) {
        for (const append of batch) append.reject(error);
      }
      this.#waitingRecords -= rows.length;
    }
    this.#flushing = false;
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

  #request(request: AuditRequest): Promise<unknown> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#sent.length >= MAX_REQUESTS) {
      return Promise.reject(new LonglineError('limit', `${MAX_REQUESTS} requests wait for the audit log`));
    }
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const limit = setTimeout(() => {
      this.#fail(`it did not answer within ${REQUEST_LIMIT_MS / 1000}s`);
      void this.#worker.terminate();
    }, REQUEST_LIMIT_MS);
    this.#sent.push({ resolve, reject, limit });
    this.#worker.postMessage(request);
    return promise;
  }

  #onReply(reply: AuditReply): void {
    const request = this.#sent.shift();
    if (request === undefined) return;
    clearTimeout(request.limit);
    if (reply.ok) request.resolve(reply.value);
    else if (reply.code === SQLITE_FULL) {
      request.reject(new LonglineError('limit', `no room for the audit log ${this.#path}; free disk space`));
    } else {
      const mend = DAMAGED.has(reply.code) ? '; restore it, or move it away to begin anew' : '';
      request.reject(new LonglineError('unavailable', `audit log ${this.#path}: ${reply.message}${mend}`));
    }
  }

  /** The thread is lost: whether the last batch is durable isn't known, so nothing more is taken. */
  #fail(why: string, cause?: unknown): void {
    this.#failure ??= new LonglineError('unavailable', `audit log ${this.#path}: ${why}; restart the agent`, { cause });
    for (const request of this.#sent.splice(0)) {
      clearTimeout(request.limit);
      request.reject(this.#failure);
    }
    // A batch under way is rejected by its request, the others here.
    for (const append of this.#waiting.splice(0)) append.reject(this.#failure);
  }
}

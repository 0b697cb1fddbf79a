// One SQLite file: a writer that commits queued units in groups, and a reader beside it that sees committed data only.
// It knows SQL and nothing of nouns. Every commit is synced (synchronous=FULL), so what resolved survives a crash; the
// sync blocks the event loop for as long as the disk takes, which grouping spreads over all writes of a tick. A disk that
// needs more than a few milliseconds for a sync would call for a worker thread: only this file would change.
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { setImmediate as nextTick } from 'node:timers/promises';
import { systemClock } from '../../../core/clock.ts';
import { LonglineError } from '../../../core/errors.ts';
import { Progress } from '../../../core/progress.ts';

/** When the writer writes. */
export interface Pace {
  /** Longest time that one turn of the event loop spends on writes, apart from the sync. */
  readonly sliceMs: number;
  /** How long a patient unit waits for others to share a commit with. */
  readonly patienceMs: number;
}

const PACE: Pace = { sliceMs: 8, patienceMs: 8 };

/** Blocking wait for another process that holds the file; ours never hold it between turns for long. */
const BUSY_TIMEOUT_MS = 1000;

/** Longer than any group of writes takes to be on disk. */
const COMMIT_LIMIT_MS = 120_000;

/** One row by column name. */
export type Row = Record<string, SQLOutputValue>;

/** Hears how long an operation took, a write from its queueing until it was durable; is quick and doesn't throw. */
export type OnTook = (operation: 'read' | 'write', tookMs: number) => void;

/** Prepared statements of one connection. Not to be kept past the unit it was given to. */
export class Sql {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  /** First row, if any. */
  one(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#prepare(sql).get(...values);
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#prepare(sql).all(...values);
  }

  /** Rows that were changed. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#prepare(sql).run(...values).changes);
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

/** A change; a generator gives the event loop a turn at each yield, still within one transaction. */
export type WriteUnit<T> = (sql: Sql) => T | Generator<void, T, void>;

interface QueuedUnit {
  readonly unit: WriteUnit<unknown>;
  readonly settle: (outcome: Outcome) => void;
}

type Outcome = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: unknown };

/** A database file. The owner disposes it; that waits for queued writes. */
export class Database implements AsyncDisposable {
  /** Whether writes get on. */
  readonly progress = new Progress('store', systemClock);
  readonly #path: string;
  readonly #writer: DatabaseSync;
  readonly #reader: DatabaseSync;
  readonly #write: Sql;
  readonly #read: Sql;
  readonly #pace: Pace;
  readonly #onTook: OnTook;
  #queue: QueuedUnit[] = [];
  #draining: Promise<void> | undefined;
  #patience: NodeJS.Timeout | undefined;
  #closed = false;
  #failure: string | undefined;

  private constructor(path: string, writer: DatabaseSync, reader: DatabaseSync, pace: Pace, onTook: OnTook) {
    this.#path = path;
    this.#onTook = onTook;
    this.#pace = pace;
    this.#writer = writer;
    this.#reader = reader;
    this.#write = new Sql(writer);
    this.#read = new Sql(reader);
  }

  /**
   * Opens or creates the file and brings its schema up to date. Migrations are applied once each, in order. `pace` is for
   * tests whose runs must not depend on how fast the machine is.
   */
  static open(
    path: string,
    migrations: readonly string[],
    pace: Pace = PACE,
    onTook: OnTook = () => undefined,
  ): Database {
    let writer: DatabaseSync | undefined;
    try {
      writer = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
      writer.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;');
      migrate(writer, migrations, path);
      const reader = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS, readOnly: true });
      return new Database(path, writer, reader, pace, onTook);
    } catch (error) {
      writer?.close();
      throw storageError(path, error);
    }
  }

  /** Why the last write did not get to the disk; undefined if it did, and for faults that aren't the disk's. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Runs a query on committed data. */
  async read<T>(query: (sql: Sql) => T): Promise<T> {
    this.#assertOpen();
    const beganMs = performance.now();
    try {
      return query(this.#read);
    } catch (error) {
      throw storageError(this.#path, error);
    } finally {
      this.#onTook('read', performance.now() - beganMs);
    }
  }

  /** Queues a unit. Units take effect in the order queued; one that throws is undone alone. Resolves once it is durable. */
  async write<T>(unit: WriteUnit<T>): Promise<T> {
    const written = this.#enqueue(unit);
    this.#startDraining();
    return (await written) as T;
  }

  /** As `write`, for what nobody waits for: a sync of its own would hold up what somebody does wait for. */
  async writeSoon<T>(unit: WriteUnit<T>): Promise<T> {
    const written = this.#enqueue(unit);
    const { patienceMs } = this.#pace;
    if (patienceMs === 0) this.#startDraining();
    else if (this.#draining === undefined) this.#patience ??= setTimeout(() => this.#startDraining(), patienceMs);
    return (await written) as T;
  }

  async #enqueue(unit: WriteUnit<unknown>): Promise<unknown> {
    this.#assertOpen();
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    const queuedMs = performance.now();
    this.#queue.push({ unit, settle: resolve });
    const outcome = await promise;
    this.#onTook('write', performance.now() - queuedMs);
    if (outcome.ok) return outcome.value;
    const error = storageError(this.#path, outcome.error);
    if (error instanceof LonglineError && error.reason === 'unavailable') this.#failure = error.message;
    throw error;
  }

  #startDraining(): void {
    clearTimeout(this.#patience);
    this.#patience = undefined;
    this.#draining ??= this.#drain();
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      this.progress.expect(COMMIT_LIMIT_MS, 'writes');
      await nextTick();
      await this.#commitGroup();
    }
    this.progress.rest();
    this.#draining = undefined;
  }

  async #commitGroup(): Promise<void> {
    const group: { readonly item: QueuedUnit; readonly outcome: Outcome }[] = [];
    const queue = this.#queue;
    this.#queue = [];
    let taken = 0;
    try {
      this.#writer.exec('BEGIN IMMEDIATE');
      const changesBefore = this.#failure === undefined ? 0 : this.#changeCount();
      const deadline = performance.now() + this.#pace.sliceMs;
      while (taken < queue.length && (taken === 0 || performance.now() < deadline)) {
        const item = queue[taken++]!;
        group.push({ item, outcome: await this.#runUnit(item.unit) });
      }
      this.#writer.exec('COMMIT');
      // Only what had something to write has shown that it can be written.
      if (this.#failure !== undefined && this.#changeCount() > changesBefore) this.#failure = undefined;
    } catch (error) {
      if (this.#writer.isTransaction) this.#writer.exec('ROLLBACK');
      this.#queue = queue.slice(Math.max(taken, 1)).concat(this.#queue);
      for (const item of queue.slice(0, Math.max(taken, 1))) item.settle({ ok: false, error });
      return;
    }
    this.#queue = taken === queue.length ? this.#queue : queue.slice(taken).concat(this.#queue);
    for (const { item, outcome } of group) item.settle(outcome);
  }

  async #runUnit(unit: WriteUnit<unknown>): Promise<Outcome> {
    this.#write.run('SAVEPOINT unit');
    try {
      const result = unit(this.#write);
      const value = isGenerator(result) ? await runInSlices(result, this.#pace.sliceMs) : result;
      this.#write.run('RELEASE unit');
      return { ok: true, value };
    } catch (error) {
      // A full disk makes SQLite roll back by itself; then the whole group is lost and says so.
      if (!this.#writer.isTransaction) throw error;
      this.#writer.exec('ROLLBACK TO unit; RELEASE unit');
      return { ok: false, error };
    }
  }

  /** Rows changed since the file was opened. */
  #changeCount(): number {
    return Number(this.#write.one('SELECT total_changes() AS count')?.['count']);
  }

  #assertOpen(): void {
    if (this.#closed) throw new LonglineError('unavailable', `database ${this.#path} is closed`);
  }

  /** Waits for queued writes and closes the file. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#startDraining();
    await this.#draining;
    this.#reader.close();
    this.#writer.close();
  }
}

function isGenerator(value: unknown): value is Generator<void, unknown, void> {
  return typeof value === 'object' && value !== null && Symbol.iterator in value && 'next' in value;
}

async function runInSlices(unit: Generator<void, unknown, void>, sliceMs: number): Promise<unknown> {
  let deadline = performance.now() + sliceMs;
  for (;;) {
    const step = unit.next();
    if (step.done) return step.value;
    if (performance.now() < deadline) continue;
    await nextTick();
    deadline = performance.now() + sliceMs;
  }
}

function migrate(db: DatabaseSync, migrations: readonly string[], path: string): void {
  db.exec('CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, applied_at_ms INTEGER NOT NULL) STRICT');
  const found = Number(db.prepare('SELECT coalesce(max(version), 0) AS version FROM migrations').get()?.['version']);
  if (found > migrations.length) {
    throw new LonglineError(
      'wrong_state',
      `database ${path} has schema version ${found}, this program knows ${migrations.length}: run the newer program or restore a backup`,
    );
  }
  for (let version = found + 1; version <= migrations.length; version++) {
    db.exec('BEGIN IMMEDIATE');
    try {
      db.exec(migrations[version - 1]!);
      db.prepare('INSERT INTO migrations (version, applied_at_ms) VALUES (?, ?)').run(version, Date.now());
      db.exec('COMMIT');
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK');
      throw error;
    }
  }
}

/** Primary result codes, https://www.sqlite.org/rescode.html */
const STORAGE_FAULTS: Readonly<Record<number, string>> = {
  5: 'is locked by another process: only one controller may use it',
  6: 'is locked',
  8: 'is read-only: make file and folder writable for the controller',
  10: 'had an input/output error: check the disk',
  11: 'is corrupt: restore a backup, or move it away to begin anew',
  13: 'has no room: the disk is full',
  14: 'could not be opened: check that the folder exists and is writable',
  26: 'is not a database: restore a backup, or move it away to begin anew',
};

function storageError(path: string, error: unknown): unknown {
  if (error instanceof LonglineError || !(error instanceof Error)) return error;
  const code = 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & 0xff : undefined;
  if (code === undefined) return error;
  const fault = STORAGE_FAULTS[code];
  if (fault === undefined) return new LonglineError('internal', `database ${path} failed`, { cause: error });
  return new LonglineError('unavailable', `database ${path} ${fault}`, { cause: error });
}

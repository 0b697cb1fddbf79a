// Small durable facts of capabilities, on SQLite. Each write is a transaction of its own, synced before it resolves.
// Not for anything frequent: a write blocks for one fsync.
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { StateStore } from '../../core/capability.ts';

/** A database of state stores, one namespace per capability. The owner disposes it. */
export class StateDatabase implements Disposable {
  readonly #database: DatabaseSync;
  readonly #get: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #list: StatementSync;
  #closed = false;

  constructor(path: string) {
    this.#database = new DatabaseSync(path, { timeout: 5000 });
    this.#database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
      CREATE TABLE IF NOT EXISTS state (
        namespace TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (namespace, key)
      ) WITHOUT ROWID, STRICT`);
    this.#get = this.#database.prepare('SELECT value FROM state WHERE namespace = ? AND key = ?');
    this.#put = this.#database.prepare('INSERT OR REPLACE INTO state (namespace, key, value) VALUES (?, ?, ?)');
    this.#delete = this.#database.prepare('DELETE FROM state WHERE namespace = ? AND key = ?');
    this.#list = this.#database.prepare(
      'SELECT key FROM state WHERE namespace = ?1 AND substr(key, 1, length(?2)) = ?2 ORDER BY key',
    );
  }

  /** The store of one namespace. */
  namespace(name: string): StateStore {
    return {
      get: async (key) => (this.#get.get(name, key) as { value: Uint8Array } | undefined)?.value,
      put: async (key, value) => {
        this.#put.run(name, key, value);
      },
      delete: async (key) => {
        this.#delete.run(name, key);
      },
      list: async (prefix) => this.#list.all(name, prefix).map((row) => (row as { key: string }).key),
    };
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#database.close();
  }
}

// A lock on a folder that a dead process can't keep: an exclusive SQLite transaction, released by the kernel with the
// process. Works on every system that SQLite works on, unlike flock, which Node doesn't offer.
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { LonglineError } from '../../core/errors.ts';

/** A held lock; dispose to release it. */
export interface FolderLock extends Disposable {
  readonly path: string;
}

/** Takes the lock of a folder at once, or throws `already_exists` if another process holds it. */
export function lockFolder(folder: string): FolderLock {
  const path = join(folder, 'lock');
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: 0 });
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    const code = (error as { errcode?: number }).errcode ?? 0;
    if ((code & 0xff) === 5 || (code & 0xff) === 6) {
      throw new LonglineError('already_exists', `data folder ${folder} is in use by another process`, { cause: error });
    }
    throw new LonglineError('unavailable', `can't lock data folder ${folder}; it must be writable`, { cause: error });
  }
  const held = database;
  let released = false;
  return {
    path,
    [Symbol.dispose]: () => {
      if (released) return;
      released = true;
      held.close();
    },
  };
}

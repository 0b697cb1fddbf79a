// A lock on a folder that a dead process can't keep: an exclusive SQLite transaction, released by the kernel with the
// process. Works on every system that SQLite works on, unlike flock, which Node doesn't offer.
import { readFileSync, statSync } from 'node:fs';
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
      const holder = holderOf(path);
      const who = holder === undefined ? 'another process' : `process ${holder}`;
      throw new LonglineError('already_exists', `data folder ${folder} is in use by ${who}`, { cause: error });
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

/** Who has locks on a file, as Linux tells it; undefined if that can't be known, as elsewhere or from within a container. */
function holderOf(path: string): number | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    // As makedev(3) puts them together.
    const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
    const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffff_ff00n);
    const hex = (number: bigint) => number.toString(16).padStart(2, '0');
    const where = `${hex(major)}:${hex(minor)}:${ino}`;
    for (const line of readFileSync('/proc/locks', 'utf8').split('\n')) {
      const [, kind, , , pid, place] = line.trim().split(/\s+/);
      if (kind === 'POSIX' && place === where && Number(pid) > 0) return Number(pid);
    }
  } catch {
    // It is only said in addition.
  }
  return undefined;
}

// The controller's data directory: private to its user and locked against a second controller. Files in it are written
// whole or not at all, and secrets that others could read are refused.
import { mkdirSync } from 'node:fs';
import { chmod, mkdir, open, readFile, rename, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { LonglineError } from '../../core/errors.ts';

const OTHERS = 0o077;

/** An opened data directory. Dispose to let go of the lock. */
export class DataDirectory implements Disposable {
  /** Absolute. */
  readonly path: string;
  readonly #lock: DatabaseSync;

  private constructor(path: string, lock: DatabaseSync) {
    this.path = path;
    this.#lock = lock;
  }

  /** Opens it, making it if needed. Throws `already_exists` if a controller has it open, `unavailable` if it can't be used. */
  static async open(directory: string): Promise<DataDirectory> {
    const path = resolve(directory);
    try {
      await makeFolder(path);
      if (((await stat(path)).mode & OTHERS) !== 0) await chmod(path, 0o700);
    } catch (error) {
      throw unusable(path, error);
    }
    return new DataDirectory(path, lockDirectory(path));
  }

  /** Path of something in the directory. */
  file(name: string): string {
    return join(this.path, name);
  }

  /** Makes a private directory in it and returns its path. */
  directory(name: string): string {
    const path = this.file(name);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  }

  /** A file that only the owner may read, or undefined if there is none. Throws `policy` if others may read it. */
  async readPrivate(name: string): Promise<Buffer | undefined> {
    return await readPrivateFile(this.file(name));
  }

  /** Writes a file with mode 0600, durably and atomically. */
  async writePrivate(name: string, content: string | Uint8Array): Promise<void> {
    try {
      await writeAtomically(this.file(name), content, 0o600);
    } catch (error) {
      throw unusable(this.path, error);
    }
  }

  [Symbol.dispose](): void {
    if (this.#lock.isOpen) this.#lock.close();
  }
}

/** Makes a folder and what is missing above it. Node's own way never ends where the kernel makes no folders, as below /proc. */
async function makeFolder(path: string): Promise<void> {
  const make = async () => {
    await mkdir(path, { mode: 0o700 }).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST' || !(await stat(path)).isDirectory()) throw error;
    });
  };
  await make().catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' || dirname(path) === path) throw error;
    await makeFolder(dirname(path));
    await make();
  });
}

/** As DataDirectory.readPrivate, for a path. */
export async function readPrivateFile(path: string): Promise<Buffer | undefined> {
  const mode = await stat(path).then(
    (found) => found.mode,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw unusable(path, error);
    },
  );
  if (mode === undefined) return undefined;
  if ((mode & OTHERS) !== 0) {
    const octal = (mode & 0o777).toString(8).padStart(4, '0');
    throw new LonglineError('policy', `${path}: mode ${octal} lets others read a secret; run: chmod 600 ${path}`, {
      rule: 'private key files',
    });
  }
  return await readFile(path).catch((error: unknown) => {
    throw unusable(path, error);
  });
}

async function writeAtomically(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const fresh = `${path}.new`;
  {
    await using file = await open(fresh, 'w', mode);
    await file.chmod(mode);
    await file.writeFile(content);
    await file.sync();
  }
  await rename(fresh, path);
  await using directory = await open(dirname(path), 'r');
  await directory.sync();
}

function unusable(path: string, error: unknown): LonglineError {
  return new LonglineError('unavailable', `data-dir: can't use ${path}: ${(error as Error).message}`, { cause: error });
}

// A file lock that the kernel drops when the process ends, however it ends; Node itself offers none, SQLite does.
function lockDirectory(path: string): DatabaseSync {
  const lock = new DatabaseSync(join(path, 'lock'));
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE');
    return lock;
  } catch (error) {
    lock.close();
    if (/locked|busy/i.test((error as Error).message)) {
      throw new LonglineError(
        'already_exists',
        `data-dir: ${path} is in use by another controller; stop that one, or start this one with another --data-dir`,
      );
    }
    throw unusable(path, error);
  }
}

// Files that are written whole: readers see the old or the new, never a part.
import { open, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { LonglineError } from '../core/errors.ts';
import { makeFolder } from './folder.ts';

/** Replaces a file, making its folder if need be. Throws `unavailable` and leaves the old one. */
export async function writeWhole(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const fresh = `${path}.${process.pid}.new`;
  try {
    await makeFolder(dirname(resolve(path)));
    await using file = await open(fresh, 'wx', mode);
    await file.chmod(mode);
    await file.writeFile(content);
    await file.sync();
    await rename(fresh, path);
  } catch (error) {
    await rm(fresh, { force: true });
    throw unwritable(path, error);
  }
}

/** Writes a new file for its owner alone. Throws `already_exists` with `mend` if there is one, else `unavailable`. */
export async function writePrivate(path: string, text: string, mend: string): Promise<void> {
  try {
    await makeFolder(dirname(resolve(path)));
    await using file = await open(path, 'wx', 0o600);
    await file.writeFile(text);
    await file.sync();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw unwritable(path, error);
    throw new LonglineError('already_exists', `${path} exists; ${mend}`);
  }
}

function unwritable(path: string, error: unknown): LonglineError {
  return new LonglineError('unavailable', `can't write ${path}: ${(error as Error).message}`, { cause: error });
}

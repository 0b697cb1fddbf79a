// What durability asks of a folder, as one seam: tests hand in a disk that loses what was not made durable.
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Operations on the entries of folders. */
export interface FolderOperations {
  /** Makes a folder (0700) and those above it, durably; fine if it is there. */
  make(path: string): Promise<void>;
  /** Puts a file in the place of another, atomically. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file; fine if there is none. */
  remove(path: string): Promise<void>;
  /** Makes creations, renames and removals in a folder durable. */
  sync(path: string): Promise<void>;
}

/** The file system of the host. */
export const hostFolders: FolderOperations = {
  make: makeFolder,
  rename,
  remove: (path) => rm(path, { force: true }),
  sync: syncFolder,
};

async function makeFolder(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = path; made !== dirname(first); made = dirname(made)) await syncFolder(dirname(made));
}

/** Makes creations, renames and removals in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

// A path that others write too: what is there, and putting something else in its place so that after a crash there is the one or
// the other. A file that can't be replaced, as a container's resolv.conf that is a mount, is overwritten; then the new text may
// stand before the rest of the old.
import { constants } from 'node:fs';
import { chown, lstat, open, readFile, readlink, rename, rm, symlink } from 'node:fs/promises';
import { dirname } from 'node:path';

const MAX_BYTES = 1024 * 1024;

/** What is at a path. */
export type Entry =
  | { readonly kind: 'absent' }
  | { readonly kind: 'link'; readonly target: string }
  | {
      readonly kind: 'file';
      /** Base64, so that bytes come back as they were. */
      readonly data: string;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
    };

/** Reads what is there. Throws for a folder or device. */
export async function readEntry(path: string): Promise<Entry> {
  try {
    const found = await lstat(path);
    if (found.isSymbolicLink()) return { kind: 'link', target: await readlink(path) };
    if (!found.isFile() || found.size > MAX_BYTES) throw new Error('it is neither a small file nor a link');
    const data = (await readFile(path)).toString('base64');
    return { kind: 'file', data, mode: found.mode & 0o7777, uid: found.uid, gid: found.gid };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { kind: 'absent' };
    throw error;
  }
}

/** Puts an entry at a path, durably. */
export async function putEntry(path: string, entry: Entry): Promise<void> {
  const fresh = `${path}.longline`;
  await rm(fresh, { force: true });
  try {
    if (entry.kind === 'absent') await rm(path, { force: true });
    else {
      if (entry.kind === 'link') await symlink(entry.target, fresh);
      else await writeFresh(fresh, entry);
      await rename(fresh, path);
    }
  } catch (error) {
    await rm(fresh, { force: true });
    const isMount = (error as NodeJS.ErrnoException).code === 'EBUSY';
    if (!isMount || entry.kind !== 'file') throw error;
    await overwrite(path, Buffer.from(entry.data, 'base64'));
  }
  await using folder = await open(dirname(path), 'r');
  await folder.sync();
}

/** True if both have the same bytes or lead to the same place. */
export function sameEntry(left: Entry, right: Entry): boolean {
  if (left.kind === 'file' && right.kind === 'file') return left.data === right.data;
  if (left.kind === 'link' && right.kind === 'link') return left.target === right.target;
  return left.kind === right.kind;
}

/** What an overwriting that was cut short leaves: all of the new bytes, and of the old what is longer. */
export function isTorn(found: Entry, fresh: Entry, old: Entry): boolean {
  if (found.kind !== 'file' || fresh.kind !== 'file' || old.kind !== 'file') return false;
  const start = Buffer.from(fresh.data, 'base64');
  const rest = Buffer.from(old.data, 'base64').subarray(start.length);
  return Buffer.concat([start, rest]).toString('base64') === found.data;
}

async function writeFresh(path: string, entry: Extract<Entry, { kind: 'file' }>): Promise<void> {
  await using file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  await file.writeFile(Buffer.from(entry.data, 'base64'));
  await file.chmod(entry.mode);
  if (process.getuid?.() === 0) await chown(path, entry.uid, entry.gid);
  await file.sync();
}

async function overwrite(path: string, data: Buffer): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(data, 0, data.length, 0);
  await file.truncate(data.length);
  await file.sync();
}

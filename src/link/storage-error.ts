// What the file system says, in the words of Longline.
import { LonglineError } from '../core/errors.ts';

const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EMFILE', 'ENFILE']);

/** A failed file operation as `limit` (disk, quota or handles used up) or `unavailable` (anything else of the disk). */
export function storageError(action: string, path: string, cause: unknown): LonglineError {
  if (cause instanceof LonglineError) return cause;
  const code = errorCode(cause);
  if (FULL.has(code)) {
    return new LonglineError('limit', `cannot ${action} ${path}: no room (${code}); free disk space on the host`, {
      cause,
    });
  }
  const mend = code === 'EROFS' || code === 'EACCES' || code === 'EPERM' ? '; make the data folder writable' : '';
  return new LonglineError('unavailable', `cannot ${action} ${path}: ${code || 'storage fault'}${mend}`, { cause });
}

/** The `code` of a Node system error; empty if it has none. */
export function errorCode(thrown: unknown): string {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
  return typeof code === 'string' ? code : '';
}

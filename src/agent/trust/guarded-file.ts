// Reads files that decide what a host lets be done on it. Such a file is refused if anybody but root and the agent's own
// user could have written it, or replaced it through its folder. What is checked is what is read: one descriptor.
import { constants } from 'node:fs';
import { type FileHandle, open, realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LonglineError } from '../../core/errors.ts';

/** Windows guards files by access lists, which Node doesn't show: there the installer must see to them. */
const HAS_OWNERS = process.geteuid !== undefined;
const LARGEST_FILE_BYTES = 4 * 1024 * 1024;

/** What a guarded file must be beside safe from being written by others. */
export interface GuardedFileOptions {
  /** "policy file", for messages. */
  readonly what: string;
  /** True if it holds a secret: group and others must not even read it. */
  readonly secret: boolean;
}

/** Reads a file as UTF-8. Throws `not_found`, `policy` with the mend if it is loose, `limit` if it is too large. */
export async function readGuardedFile(path: string, options: GuardedFileOptions): Promise<string> {
  const resolved = await realpath(path).catch((error: unknown) => {
    throw unreadable(path, options, error);
  });
  await using file = await open(resolved, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (error: unknown) => {
      throw unreadable(path, options, error);
    },
  );
  await checkFile(file, path, options);
  if (!HAS_OWNERS) return await file.readFile('utf8');
  const folder = await stat(dirname(resolved));
  // In a sticky folder such as /tmp others can't replace what isn't theirs.
  if ((folder.mode & 0o022) !== 0 && (folder.mode & 0o1000) === 0) {
    throw loose(
      path,
      options,
      `its folder can be written by others (mode ${octal(folder.mode)})`,
      'chmod go-w',
      dirname(resolved),
    );
  }
  if (!isOurs(folder.uid)) {
    throw loose(path, options, `its folder belongs to user ${folder.uid}`, 'chown root', dirname(resolved));
  }
  return await file.readFile('utf8');
}

async function checkFile(file: FileHandle, path: string, options: GuardedFileOptions): Promise<void> {
  const facts = await file.stat();
  if (!facts.isFile()) throw new LonglineError('invalid', `${options.what} ${path} is not a regular file`);
  if (facts.size > LARGEST_FILE_BYTES) {
    throw new LonglineError('limit', `${options.what} ${path} has ${facts.size} bytes; at most ${LARGEST_FILE_BYTES}`, {
      retryable: false,
    });
  }
  if (!HAS_OWNERS) return;
  if (!isOurs(facts.uid)) throw loose(path, options, `it belongs to user ${facts.uid}`, 'chown root', path);
  const forbidden = options.secret ? 0o077 : 0o022;
  if ((facts.mode & forbidden) !== 0) {
    const verb = options.secret ? 'used' : 'written';
    throw loose(
      path,
      options,
      `it can be ${verb} by others (mode ${octal(facts.mode)})`,
      options.secret ? 'chmod 600' : 'chmod go-w',
      path,
    );
  }
}

/** Root's files bind everybody; an agent that isn't root also takes its own user's word. */
function isOurs(uid: number): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

function loose(path: string, options: GuardedFileOptions, why: string, mend: string, target: string): LonglineError {
  return new LonglineError('policy', `${options.what} ${path} is refused: ${why}; mend it with: ${mend} ${target}`, {
    rule: 'file_permissions',
  });
}

function unreadable(path: string, options: GuardedFileOptions, error: unknown): LonglineError {
  const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
  const why = missing ? 'there is no such file' : (error as Error).message;
  return new LonglineError(missing ? 'not_found' : 'unavailable', `can't read ${options.what} ${path}: ${why}`, {
    cause: error,
  });
}

function octal(mode: number): string {
  return `0${(mode & 0o7777).toString(8)}`;
}

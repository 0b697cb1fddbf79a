// Places of unix sockets: one that a dead process left is cleared away, one that answers is somebody's.
import { lstat, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { LonglineError } from '../../core/errors.ts';

/** Longest path that the kernel takes for a unix socket (sockaddr_un). */
const LONGEST_PATH = 107;

/**
 * Makes sure that a socket can be bound here. Throws `invalid` for a path that is too long, `already_exists` if another process
 * serves it or something else is there. `setting` is named in messages.
 */
export async function freeSocketPath(setting: string, path: string): Promise<void> {
  const bytes = Buffer.byteLength(path);
  if (bytes > LONGEST_PATH) {
    const message = `${setting}: ${path} has ${bytes} bytes; a unix socket path has at most ${LONGEST_PATH}`;
    throw new LonglineError('invalid', message);
  }
  if (await isServed(path)) {
    throw new LonglineError('already_exists', `${setting}: another process serves ${path}`);
  }
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new LonglineError('unavailable', `${setting}: can't look at ${path}: ${error.message}`, { cause: error });
  });
  if (found !== undefined && !found.isSocket()) {
    throw new LonglineError('already_exists', `${setting}: ${path} is there and is no socket; name another path`);
  }
  await rm(path, { force: true });
}

/** True if a process takes connections here. */
export async function isServed(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once('connect', () => resolve(true));
  socket.once('error', () => resolve(false));
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}

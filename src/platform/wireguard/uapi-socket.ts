// The file of a socket that a WireGuard is configured through: whether anybody listens, and removal where nobody does.
import { chmod, mkdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { LonglineError } from '../../core/errors.ts';

const LIMIT_MS = 5_000;
const LEAVE_LIMIT_MS = 3_000;

/** `silent`: the file is there, but whoever listened has ended. */
export type SocketState = 'absent' | 'silent' | 'listening';

/** Looks by connecting, and hangs up at once. */
export function socketState(path: string): Promise<SocketState> {
  const { promise, resolve, reject } = Promise.withResolvers<SocketState>();
  const socket = connect({ path });
  const limit = setTimeout(() => {
    // Nobody takes connections, but somebody holds the socket.
    resolve('listening');
    socket.destroy();
  }, LIMIT_MS);
  socket.on('connect', () => {
    resolve('listening');
    socket.destroy();
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') resolve('absent');
    // Reset: whoever listened ended before it took the connection.
    else if (error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET') resolve('silent');
    else if (error.code === 'EAGAIN') resolve('listening');
    else reject(new LonglineError('unavailable', `${path} can't be reached: ${error.message}`, { cause: error }));
  });
  socket.on('close', () => clearTimeout(limit));
  return promise;
}

/** Removes the file if nobody listens behind it; true if it is gone. */
export async function removeSilent(path: string): Promise<boolean> {
  const state = await socketState(path);
  if (state === 'silent') await rm(path, { force: true });
  return state !== 'listening';
}

/** Makes room for a socket at `path`. Throws `already_exists` if somebody listens there, and goes on to. */
export async function freeSocket(path: string): Promise<void> {
  const folder = dirname(path);
  // Whatever our umask: a daemon that runs as somebody else looks into it.
  if ((await mkdir(folder, { recursive: true })) !== undefined) await chmod(folder, 0o755);
  const endsAt = performance.now() + LEAVE_LIMIT_MS;
  // A daemon whose link was just removed takes a moment to end.
  while (!(await removeSilent(path))) {
    if (performance.now() > endsAt) {
      const what = `a WireGuard that isn't ours listens at ${path}`;
      throw new LonglineError('already_exists', `${what}; end it, or choose another name`);
    }
    await delay(20);
  }
}

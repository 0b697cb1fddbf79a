// flock(2), which Node doesn't offer, through koffi. Not on Windows.
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { LonglineError } from '../../core/errors.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

interface Flock {
  (fd: number): number;
  errno(): number;
}

let loaded: Flock | undefined;

/** Locks an open file for this process alone, until its descriptor is closed; false if another has it. Never waits. */
export function tryLock(fd: number): boolean {
  loaded ??= load();
  for (;;) {
    if (loaded(fd) === 0) return true;
    const errno = loaded.errno();
    if (errno === constants.errno.EINTR) continue;
    if (errno === constants.errno.EWOULDBLOCK) return false;
    throw new LonglineError('unavailable', `flock failed with ${getSystemErrorName(-errno)}`);
  }
}

function load(): Flock {
  try {
    if (process.platform === 'win32') throw new Error('Windows has no flock');
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    const call = koffi.load(null).func('int flock(int fd, int operation)');
    return Object.assign((fd: number) => call(fd, LOCK_EX | LOCK_NB) as number, { errno: () => koffi.errno() });
  } catch (error) {
    const machine = `${process.platform} on ${process.arch}`;
    const text = `ha.backend: file needs flock, which can't be had on ${machine}; use redis`;
    throw new LonglineError('unsupported', text, { cause: error });
  }
}

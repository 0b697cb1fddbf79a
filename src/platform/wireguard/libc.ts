// The few calls of the C library that Node doesn't offer, through koffi. Linux only. Each fails with `unavailable` naming the
// call and the system's error, or `unsupported` if koffi has no build for this machine. Knows nothing of WireGuard.
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';
import { LonglineError } from '../../core/errors.ts';

const SIGNATURES = {
  bind: 'int bind(int fd, void *address, uint length)',
  capset: 'int capset(void *header, void *data)',
  execve: 'int execve(const char *path, const char **argv, const char **envp)',
  fcntl: 'int fcntl(int fd, int command, ...)',
  ioctl: 'int ioctl(int fd, ulong request, ...)',
  listen: 'int listen(int fd, int backlog)',
  madvise: 'int madvise(void *address, size_t length, int advice)',
  mlock: 'int mlock(void *address, size_t length)',
  prctl: 'int prctl(int option, ...)',
  recv: 'intptr_t recv(int fd, void *buffer, size_t length, int flags)',
  send: 'intptr_t send(int fd, void *buffer, size_t length, int flags)',
  setgroups: 'int setgroups(size_t count, void *list)',
  setresgid: 'int setresgid(uint real, uint effective, uint saved)',
  setresuid: 'int setresuid(uint real, uint effective, uint saved)',
  setrlimit: 'int setrlimit(int resource, void *limit)',
  setsockopt: 'int setsockopt(int fd, int level, int name, void *value, uint length)',
  signal: 'intptr_t signal(int number, intptr_t handler)',
  socket: 'int socket(int domain, int type, int protocol)',
  syscall: 'long syscall(long number, ...)',
} as const;

/** A call by name. What comes in place of "..." is given as type and value in turn. */
export type LibcCall = (name: keyof typeof SIGNATURES, ...args: readonly unknown[]) => number;

/** The same on a thread, for calls that may wait. */
export type ThreadedLibcCall = (...call: Parameters<LibcCall>) => Promise<number>;

interface Loaded {
  readonly call: LibcCall;
  readonly threaded: ThreadedLibcCall;
  readonly koffi: typeof import('koffi');
}

let loaded: Loaded | undefined;

/** The C library of this process. */
export function libc(): LibcCall {
  loaded ??= load();
  return loaded.call;
}

/** The same on a thread. What is handed in has to stay as it is until it ends. */
export const libcThreaded: ThreadedLibcCall = async (...call) => {
  loaded ??= load();
  return await loaded.threaded(...call);
};

/** Where the bytes of a buffer lie, for as long as it is referred to. */
export function addressOf(buffer: Buffer): bigint {
  loaded ??= load();
  return loaded.koffi.address(buffer);
}

function load(): Loaded {
  let koffi: typeof import('koffi');
  try {
    koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  } catch (error) {
    const machine = `${process.platform} on ${process.arch}`;
    throw new LonglineError('unsupported', `calls of the C library can't be had: no build of koffi for ${machine}`, {
      cause: error,
    });
  }
  const library = koffi.load(null);
  const functions = new Map<string, ReturnType<typeof library.func>>();
  const named = (name: keyof typeof SIGNATURES) => {
    const known = functions.get(name) ?? library.func(SIGNATURES[name]);
    functions.set(name, known);
    return known;
  };
  const call: LibcCall = (name, ...args) => {
    const result = named(name)(...args) as number;
    if (result >= 0) return result;
    const errno = koffi.errno();
    throw new LonglineError('unavailable', `${name} failed with ${getSystemErrorName(-errno)}`, {
      cause: Object.assign(new Error(name), { errno }),
    });
  };
  const threaded: ThreadedLibcCall = async (name, ...args) => {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    named(name).async(...args, (error: Error | null, result: number) => {
      if (error !== null) reject(new LonglineError('internal', `${name} can't be called`, { cause: error }));
      else if (result < 0) reject(new LonglineError('unavailable', `${name} failed, or took too long`));
      else resolve(result);
    });
    return await promise;
  };
  return { call, koffi, threaded };
}

/** Number of the system's error behind a failed call; 0 if it is none. */
export function errnoBehind(error: unknown): number {
  const cause = error instanceof LonglineError ? error.cause : undefined;
  return cause instanceof Error && 'errno' in cause ? Number(cause.errno) : 0;
}

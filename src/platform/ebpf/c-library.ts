// The few calls of the C library that BPF needs and Node doesn't offer, through koffi. Linux only. Each fails with a LonglineError
// naming the call and the system's error, by which kernelError() of bpf-syscall.ts tells classes. Knows nothing of BPF.
import { createRequire } from 'node:module';
import { LonglineError } from '../../core/errors.ts';

const SIGNATURES = {
  close: 'int close(int fd)',
  if_indextoname: 'intptr_t if_indextoname(uint index, void *name)',
  if_nametoindex: 'uint if_nametoindex(const char *name)',
  ioctl: 'int ioctl(int fd, ulong request, ...)',
  mount: 'int mount(const char *source, const char *target, const char *type, ulong flags, const char *data)',
  syscall: 'long syscall(long number, ...)',
  umount2: 'int umount2(const char *target, int flags)',
} as const;

/** Numbers of system calls that the C library has no function for, by machine. */
const SYSCALLS: Readonly<Record<string, { readonly perf_event_open: number } | undefined>> = {
  arm64: { perf_event_open: 241 },
  x64: { perf_event_open: 298 },
};

/** What came of a call: `errno` is 0 unless `result` is negative. */
export interface CallResult {
  readonly result: number;
  readonly errno: number;
}

interface Loaded {
  readonly koffi: typeof import('koffi');
  readonly functions: Map<string, (...args: readonly unknown[]) => number | bigint>;
}

let loaded: Loaded | undefined;

/** A call by name. What comes in place of "..." is given as type and value in turn. */
export function cCall(name: keyof typeof SIGNATURES, ...args: readonly unknown[]): CallResult {
  loaded ??= { koffi: loadKoffi(), functions: new Map() };
  let called = loaded.functions.get(name);
  if (called === undefined) {
    called = loaded.koffi.load(null).func(SIGNATURES[name]) as (...args: readonly unknown[]) => number | bigint;
    loaded.functions.set(name, called);
  }
  const result = Number(called(...args));
  return { result, errno: result < 0 ? loaded.koffi.errno() : 0 };
}

/** Number of a system call on this machine. Throws `unsupported` for a machine that isn't known. */
export function syscallNumber(name: 'perf_event_open'): number {
  const number = SYSCALLS[process.arch]?.[name];
  if (number !== undefined) return number;
  const known = Object.keys(SYSCALLS).join(' and ');
  throw new LonglineError('unsupported', `the number of ${name} isn't known for ${process.arch}, only for ${known}`);
}

function loadKoffi(): typeof import('koffi') {
  try {
    return createRequire(import.meta.url)('koffi') as typeof import('koffi');
  } catch (error) {
    const machine = `${process.platform} on ${process.arch}`;
    throw new LonglineError('unsupported', `calls of the C library can't be had: no build of koffi for ${machine}`, {
      cause: error,
    });
  }
}

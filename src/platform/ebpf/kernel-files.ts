// Files that the kernel offers in file systems of its own: tracepoints, and what security modules there are. If nobody has mounted
// such a file system, it is looked at without mounting it in any folder.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LonglineError } from '../../core/errors.ts';
import { BpfFd, ERRNO, kernelError } from './bpf-syscall.ts';
import { cCall } from './c-library.ts';

/** The same on all machines: numbers of newer calls are. */
const FSOPEN = 430;
const FSCONFIG = 431;
const FSMOUNT = 432;
const CLOSE_ON_EXEC = 1;
const CREATE = 6;

/** Where each is mounted as a rule. */
const FOLDERS = {
  tracefs: ['/sys/kernel/tracing', '/sys/kernel/debug/tracing'],
  securityfs: ['/sys/kernel/security'],
} as const;

/** Number of a tracepoint. Throws `not_found` naming it, `unsupported` if this kernel lists none. */
export function tracepointId(category: string, name: string): number {
  const text = readKernelFile('tracefs', join('events', category, name, 'id'));
  if (text !== undefined) return Number(text);
  throw new LonglineError('not_found', `this kernel has no tracepoint ${category}:${name}`);
}

/** What is in a file. Undefined if there is none; throws `unsupported` or `policy` if its file system can't be had. */
export function readKernelFile(type: keyof typeof FOLDERS, path: string): string | undefined {
  const found = readFrom(FOLDERS[type], path);
  if (found !== undefined) return found;
  using mount = mountNowhere(type);
  return readFrom([`/proc/self/fd/${mount.fd}`], path);
}

function readFrom(folders: readonly string[], path: string): string | undefined {
  for (const folder of folders) {
    try {
      return readFileSync(join(folder, path), 'utf8').trim();
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'EACCES') throw error;
    }
  }
  return undefined;
}

/** A mount that is in no folder, and ends with its descriptor. */
function mountNowhere(type: keyof typeof FOLDERS): BpfFd {
  using context = call(type, FSOPEN, 'str', type, 'uint', CLOSE_ON_EXEC);
  const making = ['int', context.fd, 'uint', CREATE, 'void *', null, 'void *', null, 'int', 0];
  const { errno, result } = cCall('syscall', FSCONFIG, ...making);
  if (result < 0) throw failure(type, errno);
  return call(type, FSMOUNT, 'int', context.fd, 'uint', CLOSE_ON_EXEC, 'uint', 0);
}

function call(type: keyof typeof FOLDERS, number: number, ...args: readonly unknown[]): BpfFd {
  const { errno, result } = cCall('syscall', number, ...args);
  if (result < 0) throw failure(type, errno);
  return new BpfFd(result);
}

function failure(type: keyof typeof FOLDERS, errno: number): LonglineError {
  if (errno === ERRNO.ENODEV) return new LonglineError('unsupported', `this kernel was built without ${type}`);
  return kernelError(`looking into ${type}`, errno, `as root: mount -t ${type} ${type} ${FOLDERS[type][0]}`);
}

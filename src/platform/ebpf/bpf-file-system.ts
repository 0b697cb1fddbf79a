// The BPF file system, in which the kernel keeps what is pinned. Mounts it where the system hasn't. Knows no layout. Fails with
// `policy` or `unsupported`, and the command that would help.
import { statfsSync } from 'node:fs';
import { LonglineError } from '../../core/errors.ts';
import { ERRNO, errnoName } from './bpf-syscall.ts';
import { cCall } from './c-library.ts';
import { makeFolder } from './folders.ts';

const BPF_FS_MAGIC = 0xcafe4a11;
/** No set-uid programs, no devices, no programs at all: there are none, and nobody shall put any there. */
const MOUNT_FLAGS = 2 | 4 | 8;
const MOUNT_OPTIONS = 'mode=0700';

/** True if the folder lies in a BPF file system. */
export function isBpfFileSystem(folder: string): boolean {
  try {
    return statfsSync(folder).type === BPF_FS_MAGIC;
  } catch {
    // Not there, or not to be looked at: mounting will tell.
    return false;
  }
}

/** Has a BPF file system there; nothing happens if there is one. True if it was mounted now. */
export function mountBpfFileSystem(mountPoint: string): boolean {
  if (isBpfFileSystem(mountPoint)) return false;
  const command = `mount -t bpf bpf ${mountPoint}`;
  try {
    makeFolder(mountPoint);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'an error';
    const message = `the BPF file system can't be mounted: making ${mountPoint} failed with ${code}; as root: ${command}`;
    throw new LonglineError(code === 'ENOENT' ? 'unsupported' : 'policy', message, { cause: error });
  }
  const { result, errno } = cCall('mount', 'bpf', mountPoint, 'bpf', MOUNT_FLAGS, MOUNT_OPTIONS);
  if (result === 0) return true;
  const failed = `no BPF file system at ${mountPoint}, and mounting one failed with ${errnoName(errno)}`;
  if (errno === ERRNO.ENODEV) {
    throw new LonglineError('unsupported', `${failed}: the kernel needs CONFIG_BPF_SYSCALL`);
  }
  throw new LonglineError('policy', `${failed}: as root, before the agent starts: ${command}`);
}

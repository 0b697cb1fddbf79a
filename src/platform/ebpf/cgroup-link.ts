// Links of control groups of version 2: any number at one, which run besides those of the groups above. What is hooked, a
// direction or a call, was decided when the function was loaded. A link ends with its control group.
import { closeSync, constants, openSync, statSync } from 'node:fs';
import { LonglineError } from '../../core/errors.ts';
import { attachText } from '../../core/programs/attach-point.ts';
import { type AttachTask, doing, LINK_TYPE, linkCgroup, type PointOf } from './attach-task.ts';
import { type BpfFd, createLink, ERRNO, errnoBehind, type LinkInfo } from './bpf-syscall.ts';
import { readU32 } from './native-bytes.ts';

const EBADF = 9;

/** Attaches. Throws `invalid` for a folder that is no control group of version 2. */
export function createCgroupLink(task: AttachTask<PointOf<'cgroup'>>): BpfFd {
  const { path } = task.point;
  const fd = openGroup(path);
  try {
    return createLink(doing(task, attachText(task.point)), {
      programFd: task.function.fd,
      target: fd,
      attachType: task.function.expectedAttachType,
    });
  } catch (error) {
    const errno = errnoBehind(error);
    if (errno === EBADF) {
      throw new LonglineError('invalid', `${path} is no control group of version 2`, { cause: error });
    }
    if (errno === ERRNO.EPERM) {
      const message = `${path}, or a control group above, has a program that takes no other beside it`;
      throw new LonglineError('already_exists', `${message} ("bpftool cgroup tree" shows it)`, { cause: error });
    }
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** True if the link is at that place, so that it can be made to run another function. */
export function isCgroupLinkAt(info: LinkInfo, task: AttachTask<PointOf<'cgroup'>>): boolean {
  if (info.type !== LINK_TYPE.cgroup || readU32(info.raw, 24) !== task.function.expectedAttachType) return false;
  return linkCgroup(info) === groupId(task.point.path);
}

function openGroup(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    throw absent(path, error);
  }
}

/** The kernel calls a control group by the number of its folder. */
function groupId(path: string): bigint {
  try {
    return statSync(path, { bigint: true }).ino;
  } catch (error) {
    throw absent(path, error);
  }
}

function absent(path: string, cause: unknown): LonglineError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === 'EACCES') return new LonglineError('policy', `control group ${path} can't be opened`, { cause });
  return new LonglineError('not_found', `there is no control group ${path} on this host`, { cause });
}

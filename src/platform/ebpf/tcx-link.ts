// Links of TC by TCX, which kernels have since 6.6: any number at an interface, in the order in which they came. A link ends with
// its interface.
import { LonglineError } from '../../core/errors.ts';
import { attachText } from '../../core/programs/attach-point.ts';
import { ATTACH_TYPE, type AttachTask, doing, LINK_TYPE, linkInterface, type PointOf } from './attach-task.ts';
import { type BpfFd, createLink, ERRNO, errnoBehind, type LinkInfo } from './bpf-syscall.ts';
import { interfaceIndex } from './interface-index.ts';
import { readU32 } from './native-bytes.ts';

/** Attaches behind what is there. Throws `already_exists` for a function that is. */
export function createTcxLink(task: AttachTask<PointOf<'tc'>>): BpfFd {
  const text = attachText(task.point);
  try {
    return createLink(doing(task, text), {
      programFd: task.function.fd,
      target: interfaceIndex(task.point.interface),
      attachType: attachTypeOf(task),
    });
  } catch (error) {
    if (errnoBehind(error) !== ERRNO.EEXIST) throw error;
    const message = `${task.function.name} is at ${text} already, and can't be there twice`;
    throw new LonglineError('already_exists', message, { cause: error });
  }
}

/** True if the link is at that place, so that it can be made to run another function. */
export function isTcxLinkAt(info: LinkInfo, task: AttachTask<PointOf<'tc'>>): boolean {
  if (info.type !== LINK_TYPE.tcx || readU32(info.raw, 20) !== attachTypeOf(task)) return false;
  return linkInterface(info) === interfaceIndex(task.point.interface);
}

function attachTypeOf({ point }: AttachTask<PointOf<'tc'>>): number {
  return point.direction === 'ingress' ? ATTACH_TYPE.tcxIngress : ATTACH_TYPE.tcxEgress;
}

// Links of raw tracepoints, of functions of the kernel by BTF (fentry, fexit), and of hooks of security modules. They end with
// their last descriptor and pin, and can't be made to run another function. Where functions by BTF go is decided when they are
// loaded: setAttachTarget() of function-choice.ts.
import { LonglineError } from '../../core/errors.ts';
import { attachText } from '../../core/programs/attach-point.ts';
import { type AttachTask, doing, type PointOf } from './attach-task.ts';
import { BpfFd, checked, ERRNO } from './bpf-syscall.ts';
import { libbpf } from './libbpf.ts';

/** Attaches to a tracepoint, on all processors. */
export function createRawTracepointLink(task: AttachTask<PointOf<'raw_tracepoint'>>): BpfFd {
  const { name } = task.point;
  const fd = libbpf().number('bpf_raw_tracepoint_open', name, task.function.fd);
  if (fd === -ERRNO.ENOENT) throw new LonglineError('not_found', `this kernel has no raw tracepoint ${name}`);
  return new BpfFd(checked(doing(task, attachText(task.point)), fd));
}

/** Attaches to what the function was loaded for. */
export function createTargetLink(task: AttachTask<PointOf<'fentry' | 'fexit' | 'lsm'>>): BpfFd {
  const fd = libbpf().number('bpf_raw_tracepoint_open', null, task.function.fd);
  if (fd === -ERRNO.EBUSY) {
    const message = `${attachText(task.point)} is taken: this kernel can't attach another function there`;
    throw new LonglineError('already_exists', message);
  }
  return new BpfFd(checked(doing(task, attachText(task.point)), fd));
}

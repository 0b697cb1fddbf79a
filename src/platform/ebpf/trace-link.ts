// Links of raw tracepoints, of functions of the kernel by BTF (fentry, fexit), and of hooks of security modules. They end with
// their last descriptor and pin, and can't be made to run another function. Where functions by BTF go is decided when they are
// loaded: setAttachTarget() comes before.
import type { AttachPoint, ProgramType } from '../../capabilities/programs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { attachText } from '../../core/programs/attach-point.ts';
import { ATTACH_TYPE, type AttachTask, doing, type PointOf } from './attach-task.ts';
import { BpfFd, checked, ERRNO, kernelError } from './bpf-syscall.ts';
import { type Address, libbpf } from './libbpf.ts';

const ESRCH = 3;

type TargetPoint = Extract<AttachPoint, { readonly kind: 'fentry' | 'fexit' | 'lsm' }>;

/** Types whose place is decided when they are loaded, with their number of enum bpf_attach_type. */
const TARGET_TYPES: Readonly<Partial<Record<ProgramType, number>>> = {
  fentry: ATTACH_TYPE.traceFentry,
  fexit: ATTACH_TYPE.traceFexit,
  lsm: ATTACH_TYPE.lsm,
};

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

/**
 * Before a function is loaded: says what it will be attached to, if its type needs that. `program` is libbpf's. Without a place
 * it stays as the object says. Throws `not_found` for a function or hook that the kernel doesn't have, `invalid` for two.
 */
export function setAttachTarget(
  program: Address,
  name: string,
  type: ProgramType,
  points: readonly AttachPoint[],
): void {
  const attachType = TARGET_TYPES[type];
  if (attachType === undefined) return;
  const targets = new Set(points.filter(isTarget).map((point) => (point.kind === 'lsm' ? point.hook : point.function)));
  const [target] = targets;
  if (target === undefined) return;
  if (targets.size > 1) {
    const message = `${name} can't be at ${[...targets].join(' and ')}: ${type} functions are loaded for one place`;
    throw new LonglineError('invalid', message);
  }
  const trying = `having ${name} loaded for ${type}:${target}`;
  checked(trying, libbpf().number('bpf_program__set_expected_attach_type', program, attachType));
  const result = libbpf().number('bpf_program__set_attach_target', program, 0, target);
  if (result === -ESRCH || result === -ERRNO.ENOENT) {
    const what = type === 'lsm' ? 'hook of security modules' : 'function';
    const mend = 'it may be inlined, or the kernel may have no BTF (CONFIG_DEBUG_INFO_BTF)';
    throw new LonglineError('not_found', `this kernel has no ${what} ${target}: ${mend}`);
  }
  if (result < 0) throw kernelError(trying, -result);
}

function isTarget(point: AttachPoint): point is TargetPoint {
  return point.kind === 'fentry' || point.kind === 'fexit' || point.kind === 'lsm';
}

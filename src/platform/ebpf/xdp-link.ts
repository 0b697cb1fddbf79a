// Links of XDP. An interface has at most one program in all, whoever's it is. A link ends with its interface.
import { LonglineError } from '../../core/errors.ts';
import { attachText, type XdpMode } from '../../core/programs/attach-point.ts';
import { ATTACH_TYPE, type AttachTask, doing, LINK_TYPE, linkInterface, type PointOf } from './attach-task.ts';
import { type BpfFd, createLink, ERRNO, errnoBehind, type LinkInfo } from './bpf-syscall.ts';
import { interfaceIndex } from './interface-index.ts';
import { libbpf } from './libbpf.ts';
import { readU32 } from './native-bytes.ts';

/** XDP_FLAGS_… of each mode. */
const MODE_FLAG: Readonly<Record<XdpMode, number>> = { auto: 0, generic: 2, native: 4, offload: 8 };

/** Attaches. Throws `already_exists` if the interface has a program, `unsupported` if its driver can't do the mode. */
export function createXdpLink(task: AttachTask<PointOf<'xdp'>>): BpfFd {
  const { point } = task;
  const index = interfaceIndex(point.interface);
  const text = attachText(point);
  try {
    return createLink(doing(task, text), {
      programFd: task.function.fd,
      target: index,
      attachType: ATTACH_TYPE.xdp,
      flags: MODE_FLAG[point.mode],
    });
  } catch (error) {
    const errno = errnoBehind(error);
    if (errno === ERRNO.EBUSY || errno === ERRNO.EEXIST) throw taken(text, index, error);
    if (errno === ERRNO.EOPNOTSUPP || errno === ERRNO.EINVAL) throw refusedMode(point.interface, point.mode, error);
    throw error;
  }
}

/** True if the link is at that place, so that it can be made to run another function. */
export function isXdpLinkAt(info: LinkInfo, task: AttachTask<PointOf<'xdp'>>): boolean {
  const { interface: name, mode } = task.point;
  const index = interfaceIndex(name);
  if (info.type !== LINK_TYPE.xdp || linkInterface(info) !== index) return false;
  return mode === 'auto' || xdpProgramId(index, mode) === info.programId;
}

/** True if the link has to go before there can be another at the place. */
export function isInTheWay(info: LinkInfo, task: AttachTask<PointOf<'xdp'>>): boolean {
  return info.type === LINK_TYPE.xdp && linkInterface(info) === interfaceIndex(task.point.interface);
}

/** The mode that a link runs in. */
export function xdpModeOf(info: LinkInfo): XdpMode {
  const modes = ['native', 'generic', 'offload'] as const;
  return modes.find((mode) => xdpProgramId(linkInterface(info), mode) === info.programId) ?? 'auto';
}

/** Id of the program that an interface has in a mode; 0 for none. */
function xdpProgramId(index: number, mode: XdpMode): number {
  const id = Buffer.alloc(4);
  return libbpf().number('bpf_xdp_query_id', index, MODE_FLAG[mode], id) < 0 ? 0 : readU32(id, 0);
}

function taken(text: string, index: number, cause: unknown): LonglineError {
  const id = xdpProgramId(index, 'auto');
  const whose = id === 0 ? 'another XDP program' : `XDP program ${id}`;
  const mend = `detach it first ("bpftool net" shows whose it is)`;
  return new LonglineError('already_exists', `${text} has ${whose} already, and takes no second: ${mend}`, { cause });
}

function refusedMode(name: string, mode: XdpMode, cause: unknown): LonglineError {
  const mend = mode === 'generic' ? 'kernels since 5.9 have links of XDP' : `xdp:${name}:generic works with any driver`;
  const message = `the driver of ${name} takes no XDP program in mode ${mode}: ${mend}`;
  return new LonglineError('unsupported', message, { cause });
}

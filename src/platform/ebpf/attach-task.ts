// What the files of this folder that attach hand to each other: a function that is loaded, and where it is to run. Numbers are
// those of the kernel's user interface.
import type { AttachPoint, ProgramType } from '../../capabilities/programs/ports.ts';
import type { LinkInfo } from './bpf-syscall.ts';
import { readU32, readU64 } from './native-bytes.ts';

/** A function that is loaded. Its descriptor stays with whoever opened it. */
export interface LoadedFunction {
  readonly name: string;
  readonly id: number;
  readonly fd: number;
  /**
   * What it was loaded for, as libbpf says at bpf_program__expected_attach_type(). The kernel doesn't tell it again, and functions
   * for control groups can't be attached without: whoever loads has to keep it.
   */
  readonly expectedAttachType: number;
}

/** Places of one kind. */
export type PointOf<K extends AttachPoint['kind']> = Extract<AttachPoint, { readonly kind: K }>;

/** A function, and a place for it of the kind that its type is for. */
export interface AttachTask<P extends AttachPoint = AttachPoint> {
  readonly function: LoadedFunction;
  readonly type: ProgramType;
  readonly point: P;
}

/** enum bpf_attach_type, as far as it is used. */
export const ATTACH_TYPE = {
  cgroupIngress: 0,
  cgroupEgress: 1,
  traceFentry: 24,
  traceFexit: 25,
  lsm: 27,
  xdp: 37,
  perfEvent: 41,
  tcxIngress: 46,
  tcxEgress: 47,
} as const;

/** enum bpf_link_type, as far as it is told apart. */
export const LINK_TYPE = { cgroup: 3, xdp: 6, tcx: 11 } as const;

/** Index of the interface of a link of XDP or TCX. 0 once the interface is gone. */
export function linkInterface(info: LinkInfo): number {
  return readU32(info.raw, 16);
}

/** Id of the control group of a link. 0 once it is gone. */
export function linkCgroup(info: LinkInfo): bigint {
  return readU64(info.raw, 16);
}

/** True if nothing runs any more because its interface or control group is gone. */
export function isGone(info: LinkInfo): boolean {
  if (info.type === LINK_TYPE.cgroup) return linkCgroup(info) === 0n;
  return (info.type === LINK_TYPE.xdp || info.type === LINK_TYPE.tcx) && linkInterface(info) === 0;
}

/** "attaching count_packets to xdp:eth0 as …", for messages. */
export function doing(task: AttachTask, text: string): string {
  return `attaching ${task.function.name} to ${text}`;
}

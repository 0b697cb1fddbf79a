// Finds out which types of functions this kernel takes, by loading and attaching one of each that does nothing, where that can be
// done without a place of somebody's. Leaves nothing. Doesn't fail: what is missing is a reason with a mend. The one exception is
// libbpf itself.
import { existsSync, readFileSync } from 'node:fs';
import type { AttachPoint, ProgramType, TypeSupport } from '../../capabilities/programs/ports.ts';
import { type LonglineError, toLonglineError } from '../../core/errors.ts';
import { PROGRAM_TYPES } from '../../core/programs/program-type.ts';
import { ATTACH_TYPE, type AttachTask, type PointOf } from './attach-task.ts';
import { BpfFd, checked, ERRNO, errnoBehind, errnoName } from './bpf-syscall.ts';
import { readKernelFile } from './kernel-files.ts';
import { libbpf } from './libbpf.ts';
import { sized, writeU32 } from './native-bytes.ts';
import { createPerfLinks, createTracepointLink, onlineProcessors, probeType } from './perf-event.ts';
import { createRawTracepointLink, createTargetLink } from './trace-link.ts';

const LOAD_OPTIONS_SIZE = 104;
const MOV_R0 = 0xb7;
const EXIT = 0x95;
const NO_INTERFACE = 0x7fff_fff0;

interface Trivial {
  /** enum bpf_prog_type. */
  readonly number: number;
  readonly expected: number;
  /** What it returns, so that it lets everything be. */
  readonly result: number;
}

const TRIVIAL: Readonly<Record<ProgramType, Trivial>> = {
  xdp: { number: 6, expected: ATTACH_TYPE.xdp, result: 2 },
  tc: { number: 3, expected: 0, result: -1 },
  cgroup_skb: { number: 8, expected: ATTACH_TYPE.cgroupIngress, result: 1 },
  cgroup_sock: { number: 9, expected: 2, result: 1 },
  cgroup_sock_addr: { number: 18, expected: 10, result: 1 },
  tracepoint: { number: 5, expected: 0, result: 0 },
  raw_tracepoint: { number: 17, expected: 0, result: 0 },
  perf_event: { number: 7, expected: 0, result: 0 },
  uprobe: { number: 2, expected: 0, result: 0 },
  kprobe: { number: 2, expected: 0, result: 0 },
  fentry: { number: 26, expected: ATTACH_TYPE.traceFentry, result: 0 },
  fexit: { number: 26, expected: ATTACH_TYPE.traceFexit, result: 0 },
  lsm: { number: 29, expected: ATTACH_TYPE.lsm, result: 0 },
};

/** A function that every kernel has, and few call. */
const FUNCTION = 'do_unlinkat';
const HOOK = 'file_open';
const TRACEPOINT = { category: 'sched', name: 'sched_process_exit' } as const;

let tcx: boolean | undefined;

/** All types, in the order of PROGRAM_TYPES. */
export function probeTypes(isAtomic: (type: ProgramType) => boolean): readonly TypeSupport[] {
  return PROGRAM_TYPES.map((type) => ({ type, missing: missing(type), atomic: isAtomic(type) }));
}

/** True if the kernel has links of TC. Throws what loading a function of TC does. */
export function hasTcx(): boolean {
  if (tcx !== undefined) return tcx;
  using program = load('tc');
  const options = sized(64);
  const made = libbpf().number('bpf_link_create', program.fd, NO_INTERFACE, ATTACH_TYPE.tcxIngress, options);
  // Who knows such links misses the interface; who doesn't calls it all wrong.
  tcx = made === -ERRNO.ENODEV;
  return tcx;
}

function missing(type: ProgramType): string | undefined {
  try {
    return PROBES[type]?.() ?? loadProbe(type);
  } catch (error) {
    return reasonOf(type, toLonglineError(error));
  }
}

/** What else is looked at for each type. They give a reason, or throw one. */
const PROBES: Readonly<Partial<Record<ProgramType, () => string | undefined>>> = {
  cgroup_skb: cgroupProbe,
  cgroup_sock: cgroupProbe,
  cgroup_sock_addr: cgroupProbe,
  tracepoint: () => attachProbe('tracepoint', { kind: 'tracepoint', ...TRACEPOINT }, createTracepointLink),
  raw_tracepoint: () => {
    return attachProbe('raw_tracepoint', { kind: 'raw_tracepoint', name: TRACEPOINT.name }, createRawTracepointLink);
  },
  perf_event: () => {
    const processors = onlineProcessors().slice(0, 1);
    const point = { kind: 'perf', event: 'cpu-clock', hz: 1 } as const;
    return attachProbe(
      'perf_event',
      point,
      (task: AttachTask<PointOf<'perf'>>) => createPerfLinks(task, processors)[0]!,
    );
  },
  uprobe: () => probesMissing('uprobe', 'user space'),
  kprobe: () => probesMissing('kprobe', 'the kernel'),
  fentry: () => targetProbe('fentry'),
  fexit: () => targetProbe('fexit'),
  lsm: lsmProbe,
};

function loadProbe(type: ProgramType): undefined {
  load(type)[Symbol.dispose]();
}

function attachProbe<P extends AttachPoint>(
  type: ProgramType,
  point: P,
  attach: (task: AttachTask<P>) => BpfFd,
): undefined {
  using program = load(type);
  const probe = { name: 'a function that does nothing', id: 0, fd: program.fd, expectedAttachType: 0 };
  attach({ function: probe, type, point })[Symbol.dispose]();
}

function cgroupProbe(): string | undefined {
  const mounted = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  if (mounted.some((line) => line.split(' ')[2] === 'cgroup2')) return undefined;
  return 'no control groups of version 2 are mounted; as root: mount -t cgroup2 none /sys/fs/cgroup/unified';
}

function probesMissing(kind: 'kprobe' | 'uprobe', where: string): string | undefined {
  if (probeType(kind) !== undefined) return undefined;
  const option = `CONFIG_${kind.toUpperCase()}_EVENTS`;
  return `this kernel has no probes of functions of ${where}: it has to be built with ${option}`;
}

function targetProbe(type: 'fentry' | 'fexit'): string | undefined {
  const id = targetId(type, FUNCTION);
  if (id === undefined) return NO_BTF;
  using program = load(type, id);
  const probe = {
    name: 'a function that does nothing',
    id: 0,
    fd: program.fd,
    expectedAttachType: TRIVIAL[type].expected,
  };
  createTargetLink({ function: probe, type, point: { kind: type, function: FUNCTION } })[Symbol.dispose]();
  return undefined;
}

function lsmProbe(): string | undefined {
  const id = targetId('lsm', HOOK);
  if (id === undefined) return NO_BTF;
  load('lsm', id)[Symbol.dispose]();
  const modules = readKernelFile('securityfs', 'lsm');
  if (modules === undefined || modules.split(',').includes('bpf')) return undefined;
  return `functions would be taken and never run, as "bpf" isn't among the security modules (${modules}): add it to lsm= on the kernel's command line`;
}

const NO_BTF = 'this kernel has no type information of itself: it has to be built with CONFIG_DEBUG_INFO_BTF';

/** By type and name: they change with each boot at most, and libbpf reads megabytes for each. */
const targetIds = new Map<string, number>();

function targetId(type: ProgramType, name: string): number | undefined {
  const { expected } = TRIVIAL[type];
  const known = targetIds.get(`${expected} ${name}`);
  if (known !== undefined) return known;
  if (!existsSync('/sys/kernel/btf/vmlinux')) return undefined;
  const id = libbpf().number('libbpf_find_vmlinux_btf_id', name, expected);
  if (id <= 0) return undefined;
  targetIds.set(`${expected} ${name}`, id);
  return id;
}

/** Loads a function that does nothing. The caller disposes it. */
function load(type: ProgramType, attachBtfId = 0): BpfFd {
  const { expected, number, result } = TRIVIAL[type];
  const code = Buffer.alloc(16);
  code[0] = MOV_R0;
  code.writeInt32LE(result, 4);
  code[8] = EXIT;
  const options = sized(LOAD_OPTIONS_SIZE);
  writeU32(options, 12, expected);
  writeU32(options, 32, attachBtfId);
  const trying = `loading a function of type ${type} that does nothing`;
  return new BpfFd(
    checked(trying, libbpf().number('bpf_prog_load', number, 'longline_probe', 'GPL', code, 2, options)),
  );
}

function reasonOf(type: ProgramType, error: LonglineError): string {
  const errno = errnoBehind(error);
  const isTarget = type === 'fentry' || type === 'fexit' || type === 'lsm';
  if (isTarget && errno === ERRNO.EPERM) {
    const needs = 'it needs CAP_BPF and CAP_PERFMON, and a kernel that allows it to them';
    return `the kernel refuses to load ${type} functions (EPERM): ${needs}`;
  }
  if (isTarget && (errno === ERRNO.ENOTSUPP || errno === ERRNO.EINVAL || errno === ERRNO.EOPNOTSUPP)) {
    const needs = type === 'lsm' ? 'CONFIG_BPF_LSM' : 'CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS';
    return `this kernel takes no ${type} functions (${errnoName(errno)}): it has to be built with ${needs}`;
  }
  if (errno === ERRNO.EINVAL) return `${error.message}: this kernel is too old for it, or was built without it`;
  return error.message;
}

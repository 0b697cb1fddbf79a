// Perf events that functions are linked to: tracepoints, probes of functions, and samples of counters. A link keeps its event,
// and ends with its last descriptor and pin. It can't be made to run another function.
import { readFileSync } from 'node:fs';
import { LonglineError } from '../../core/errors.ts';
import { attachText, type PERF_EVENTS } from '../../core/programs/attach-point.ts';
import { ATTACH_TYPE, type AttachTask, doing, type PointOf } from './attach-task.ts';
import { BpfFd, createLink, ERRNO, errnoBehind, kernelError } from './bpf-syscall.ts';
import { cCall, syscallNumber } from './c-library.ts';
import { tracepointId } from './kernel-files.ts';
import { libbpf } from './libbpf.ts';
import { writeU32, writeU64 } from './native-bytes.ts';
import { findSymbol } from './uprobe-target.ts';

/** struct perf_event_attr up to what probes need, which all kernels with links of perf events know. */
const ATTRIBUTES_SIZE = 72;
const BY_FREQUENCY = 1n << 10n;
const CLOSE_ON_EXEC = 8;
const DEVICES = '/sys/bus/event_source/devices';
const ONLINE = '/sys/devices/system/cpu/online';

const TYPE_HARDWARE = 0;
const TYPE_SOFTWARE = 1;
const TYPE_TRACEPOINT = 2;

/** Type and number of each counter. */
const COUNTERS: Readonly<Record<(typeof PERF_EVENTS)[number], readonly [type: number, config: number]>> = {
  'cpu-clock': [TYPE_SOFTWARE, 0],
  'task-clock': [TYPE_SOFTWARE, 1],
  'page-faults': [TYPE_SOFTWARE, 2],
  'context-switches': [TYPE_SOFTWARE, 3],
  'cpu-migrations': [TYPE_SOFTWARE, 4],
  'minor-faults': [TYPE_SOFTWARE, 5],
  'major-faults': [TYPE_SOFTWARE, 6],
  'cpu-cycles': [TYPE_HARDWARE, 0],
  instructions: [TYPE_HARDWARE, 1],
};

interface PerfEvent {
  readonly type: number;
  readonly config: bigint;
  /** Address of a name, for probes. */
  readonly config1?: bigint;
  /** Offset, for probes. */
  readonly config2?: bigint;
  /** Samples a second; without it every event counts. */
  readonly hz?: number;
  readonly cpu: number;
}

/** Attaches to a tracepoint, on all processors. */
export function createTracepointLink(task: AttachTask<PointOf<'tracepoint'>>): BpfFd {
  const { category, name } = task.point;
  const config = BigInt(tracepointId(category, name));
  return link(task, { type: TYPE_TRACEPOINT, config, cpu: 0 });
}

/** Attaches to a counter: a link for each processor that is online. Processors that come later have none. */
export function createPerfLinks(task: AttachTask<PointOf<'perf'>>, processors = onlineProcessors()): readonly BpfFd[] {
  const { event, hz } = task.point;
  const counter = Object.hasOwn(COUNTERS, event) ? COUNTERS[event as keyof typeof COUNTERS] : undefined;
  if (counter === undefined) {
    const known = Object.keys(COUNTERS).join(', ');
    throw new LonglineError('not_found', `there is no counter ${event}; right would be one of ${known}`);
  }
  const [type, config] = counter;
  const links: BpfFd[] = [];
  try {
    for (const cpu of processors) links.push(link(task, { type, config: BigInt(config), hz, cpu }));
    return links;
  } catch (error) {
    for (const one of links) one[Symbol.dispose]();
    const errno = errnoBehind(error);
    if (errno === ERRNO.ENOENT || errno === ERRNO.EOPNOTSUPP || errno === ERRNO.ENODEV) {
      const mend = 'virtual machines often have no counters of the processor, cpu-clock is everywhere';
      throw new LonglineError('unsupported', `this host can't count ${event}: ${mend}`, { cause: error });
    }
    if (errno === ERRNO.EINVAL) {
      const limit = 'sysctl kernel.perf_event_max_sample_rate is the limit';
      throw new LonglineError('invalid', `${attachText(task.point)}: ${hz} a second is too often: ${limit}`, {
        cause: error,
      });
    }
    throw error;
  }
}

/** Attaches to a function of a program or library, in all processes that run it. */
export function createUprobeLink(task: AttachTask<PointOf<'uprobe'>>): BpfFd {
  const { atReturn, path, symbol } = task.point;
  const offset = findSymbol(path, symbol);
  return probe(task, 'uprobe', atReturn, path, offset);
}

/** Attaches to a function of the kernel. */
export function createKprobeLink(task: AttachTask<PointOf<'kprobe'>>): BpfFd {
  const { atReturn, symbol } = task.point;
  try {
    return probe(task, 'kprobe', atReturn, symbol, 0n);
  } catch (error) {
    if (errnoBehind(error) !== ERRNO.ENOENT) throw error;
    throw new LonglineError('not_found', `this kernel has no function ${symbol} that can be probed`, { cause: error });
  }
}

/** Number of the kind of event. Undefined if this kernel has no such probes. */
export function probeType(kind: 'kprobe' | 'uprobe'): number | undefined {
  const text = readText(`${DEVICES}/${kind}/type`);
  return text === undefined ? undefined : Number(text);
}

function probe(task: AttachTask, kind: 'kprobe' | 'uprobe', atReturn: boolean, name: string, offset: bigint): BpfFd {
  const type = probeType(kind);
  if (type === undefined) {
    throw new LonglineError('unsupported', `this kernel has no ${kind}s: it needs CONFIG_${kind.toUpperCase()}S`);
  }
  const place = Buffer.from(`${name}\0`);
  return link(task, {
    type,
    config: atReturn ? 1n << returnBit(kind) : 0n,
    config1: libbpf().addressOf(place),
    config2: offset,
    cpu: 0,
  });
}

/** The kernel says which bit makes a probe one at return: "config:0". */
function returnBit(kind: string): bigint {
  const bit = /^config:(\d+)/.exec(readText(`${DEVICES}/${kind}/format/retprobe`) ?? '')?.[1];
  return BigInt(bit ?? 0);
}

function link(task: AttachTask, event: PerfEvent): BpfFd {
  const trying = doing(task, attachText(task.point));
  using perf = openPerfEvent(trying, event);
  return createLink(trying, {
    programFd: task.function.fd,
    target: perf.fd,
    attachType: ATTACH_TYPE.perfEvent,
  });
}

/** Opens and starts an event of all processes. The caller disposes it. */
function openPerfEvent(trying: string, event: PerfEvent): BpfFd {
  const attributes = Buffer.alloc(ATTRIBUTES_SIZE);
  writeU32(attributes, 0, event.type);
  writeU32(attributes, 4, ATTRIBUTES_SIZE);
  writeU64(attributes, 8, event.config);
  writeU64(attributes, 16, BigInt(event.hz ?? 1));
  writeU64(attributes, 40, event.hz === undefined ? 0n : BY_FREQUENCY);
  writeU32(attributes, 48, 1);
  writeU64(attributes, 56, event.config1 ?? 0n);
  writeU64(attributes, 64, event.config2 ?? 0n);
  const everyProcess = ['int', -1, 'int', event.cpu, 'int', -1, 'ulong', CLOSE_ON_EXEC];
  const number = syscallNumber('perf_event_open');
  const { errno, result } = cCall('syscall', number, 'void *', attributes, ...everyProcess);
  if (result < 0) throw kernelError(trying, errno);
  return new BpfFd(result);
}

/** Numbers of processors, from "0-3,5". */
export function onlineProcessors(text = readText(ONLINE) ?? '0'): readonly number[] {
  return text.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

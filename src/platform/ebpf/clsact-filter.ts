// Filters of TC on the clsact discipline, for kernels without TCX. They have no link: a filter is known by interface, direction
// and a handle of ours, and found to be ours by the function that it runs. It goes on one filter of an interface at a time, and
// leaves the discipline, which others may use. What an interface had ends with it.
import { createHash } from 'node:crypto';
import { LonglineError } from '../../core/errors.ts';
import { checked, ERRNO, kernelError } from './bpf-syscall.ts';
import { libbpf } from './libbpf.ts';
import { readU32, sized, writeU32 } from './native-bytes.ts';

/** Where a filter is. */
export interface FilterPlace {
  /** Of the interface. */
  readonly index: number;
  readonly direction: 'ingress' | 'egress';
  readonly handle: number;
}

const HOOK_SIZE = 24;
const FILTER_SIZE = 32;
const INGRESS = 1;
const EGRESS = 2;
const REPLACE = 1;
/** Filters run in the order of these numbers. Those that the kernel hands out begin at 49152, those of people at 1. */
const PRIORITY = 19_532;
/** What a query says when interface, discipline or filter aren't there. */
const ABSENT: readonly number[] = [ERRNO.ENOENT, ERRNO.ENODEV, ERRNO.EINVAL, ERRNO.EOPNOTSUPP];

/** The handle of a slot: always the same, so that what a killed agent attached is found again. */
export function filterHandle(slotPath: string): number {
  return (createHash('sha256').update(slotPath).digest().readUInt32LE(0) & 0x7fff_ffff) | 1;
}

/** Attaches. `replace`: the filter of this place is ours if there is one, and runs the function from one packet to the next. */
export function attachFilter(trying: string, place: FilterPlace, programFd: number, replace: boolean): void {
  const hook = hookOf(place);
  const { result: made, said: makingSaid } = libbpf().listen(() => libbpf().number('bpf_tc_hook_create', hook));
  if (made === -ERRNO.ENOENT) throw notBuilt(trying, 'CONFIG_NET_SCH_INGRESS');
  if (made < 0 && made !== -ERRNO.EEXIST) throw kernelError(trying, -made, makingSaid);
  const filter = filterOf(place);
  writeU32(filter, 8, programFd);
  writeU32(filter, 12, replace ? REPLACE : 0);
  const { result, said } = libbpf().listen(() => libbpf().number('bpf_tc_attach', hook, filter));
  if (result === -ERRNO.EEXIST) {
    const message = `${trying}: somebody else has a filter of priority ${PRIORITY} with handle ${place.handle} there`;
    throw new LonglineError('already_exists', message);
  }
  if (result === -ERRNO.ENOENT) throw notBuilt(trying, 'CONFIG_NET_CLS_BPF');
  if (result < 0) throw kernelError(trying, -result, said);
}

function notBuilt(trying: string, option: string): LonglineError {
  return new LonglineError('unsupported', `${trying}: this kernel has no TCX, and was built without ${option} too`);
}

/** Id of the function that runs there. Undefined if nothing does. */
export function filterProgram(place: FilterPlace): number | undefined {
  const filter = filterOf(place);
  const { result } = libbpf().listen(() => libbpf().number('bpf_tc_query', hookOf(place), filter));
  if (ABSENT.includes(-result)) return undefined;
  checked(`asking for the filter of interface ${place.index}`, result);
  return readU32(filter, 16);
}

/** Nothing happens if it isn't there. */
export function detachFilter(place: FilterPlace): void {
  const { result, said } = libbpf().listen(() => libbpf().number('bpf_tc_detach', hookOf(place), filterOf(place)));
  if (result < 0 && !ABSENT.includes(-result)) {
    throw kernelError(`removing the filter of interface ${place.index}`, -result, said);
  }
}

function hookOf({ direction, index }: FilterPlace): Buffer {
  const hook = sized(HOOK_SIZE);
  writeU32(hook, 8, index);
  writeU32(hook, 12, direction === 'ingress' ? INGRESS : EGRESS);
  return hook;
}

function filterOf({ handle }: FilterPlace): Buffer {
  const filter = sized(FILTER_SIZE);
  writeU32(filter, 20, handle);
  writeU32(filter, 24, PRIORITY);
  return filter;
}

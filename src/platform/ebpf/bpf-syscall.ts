// What the bpf(2) system call is asked, through libbpf's thin functions: pins, maps, links, and what the kernel tells of each, as
// plain values. Descriptors are owned by BpfFd. Knows no layout of pins and no libbpf object. Fails with kernelError(): the class
// by errno, the message with what was being done and the name of the errno.
import { closeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { LonglineError, type Reason } from '../../core/errors.ts';
import { libbpf } from './libbpf.ts';
import { readU32, readU64, sized, textAt, writeU32, writeU64 } from './native-bytes.ts';

/** Numbers of errno that are told apart here. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  E2BIG: 7,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  ENOSPC: 28,
  ENOSYS: 38,
  ENOLINK: 67,
  EOPNOTSUPP: 95,
  ENOTSUPP: 524,
} as const;

const REASONS: Readonly<Record<number, Reason>> = {
  [ERRNO.EPERM]: 'policy',
  [ERRNO.EACCES]: 'policy',
  [ERRNO.ENOENT]: 'not_found',
  [ERRNO.ESRCH]: 'not_found',
  [ERRNO.ENODEV]: 'not_found',
  [ERRNO.EEXIST]: 'already_exists',
  [ERRNO.EINVAL]: 'invalid',
  [ERRNO.E2BIG]: 'limit',
  [ERRNO.ENOMEM]: 'limit',
  [ERRNO.EMFILE]: 'limit',
  [ERRNO.ENOSPC]: 'limit',
  [ERRNO.ENOSYS]: 'unsupported',
  [ERRNO.EOPNOTSUPP]: 'unsupported',
  [ERRNO.ENOTSUPP]: 'unsupported',
};

/** "EPERM". The kernel has some that no list of the system knows. */
export function errnoName(errno: number): string {
  if (errno === ERRNO.ENOTSUPP) return 'ENOTSUPP';
  const name = getSystemErrorName(-errno);
  return /^E[A-Z0-9]+$/.test(name) ? name : `errno ${errno}`;
}

/** `doing` is what was tried: "pinning map counts". `more`: what libbpf said, or the mend. */
export function kernelError(doing: string, errno: number, more = ''): LonglineError {
  const reason = REASONS[errno] ?? 'unavailable';
  const mend =
    reason === 'policy' && more === '' ? 'the agent needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or root' : more;
  const message = `${doing} failed with ${errnoName(errno)}${mend === '' ? '' : `: ${mend}`}`;
  return new LonglineError(reason, message, { cause: Object.assign(new Error(errnoName(errno)), { errno }) });
}

/** Number of the system's error behind a failed call; 0 if it is none. */
export function errnoBehind(error: unknown): number {
  const cause = error instanceof LonglineError ? error.cause : undefined;
  return cause instanceof Error && 'errno' in cause ? Math.abs(Number(cause.errno)) : 0;
}

/** Throws kernelError() for a negative number of libbpf; else gives it back. */
export function checked(doing: string, result: number): number {
  if (result < 0) throw kernelError(doing, -result);
  return result;
}

/** A descriptor with an owner. Disposing twice does nothing. */
export class BpfFd implements Disposable {
  #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** -1 once disposed. */
  get fd(): number {
    return this.#fd;
  }

  [Symbol.dispose](): void {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd >= 0) closeSync(fd);
  }
}

/** What is pinned there. Undefined if nothing is. */
export function openPin(path: string): BpfFd | undefined {
  const fd = libbpf().number('bpf_obj_get', path);
  if (fd === -ERRNO.ENOENT) return undefined;
  return new BpfFd(checked(`opening ${path}`, fd));
}

/** Pins anew; throws `already_exists` if there is something. */
export function pin(fd: number, path: string): void {
  checked(`pinning ${path}`, libbpf().number('bpf_obj_pin', fd, path));
}

/** A function by its id. Undefined if it is gone. */
export function programById(id: number): BpfFd | undefined {
  return byId('bpf_prog_get_fd_by_id', 'program', id);
}

/** A map by its id. Undefined if it is gone. */
export function mapById(id: number): BpfFd | undefined {
  return byId('bpf_map_get_fd_by_id', 'map', id);
}

/** A link by its id. Undefined if it is gone, or only being made. */
export function linkById(id: number): BpfFd | undefined {
  return byId('bpf_link_get_fd_by_id', 'link', id);
}

type ById = 'bpf_prog_get_fd_by_id' | 'bpf_map_get_fd_by_id' | 'bpf_link_get_fd_by_id';

function byId(name: ById, noun: string, id: number): BpfFd | undefined {
  const fd = libbpf().number(name, id);
  if (fd === -ERRNO.ENOENT || fd === -ERRNO.EAGAIN) return undefined;
  return new BpfFd(checked(`opening ${noun} ${id}`, fd));
}

/** The next link of the host after an id, 0 for the first. Undefined at the end. */
export function nextLinkId(after: number): number | undefined {
  const next = Buffer.alloc(4);
  const result = libbpf().number('bpf_link_get_next_id', after, next);
  if (result === -ERRNO.ENOENT) return undefined;
  checked('listing links', result);
  return readU32(next, 0);
}

/** What the kernel tells of a function. Names are cut to 15 bytes by the kernel. */
export interface ProgramInfo {
  readonly type: number;
  readonly id: number;
  readonly name: string;
  readonly mapIds: readonly number[];
  readonly btfId: number;
  readonly runTimeNs: bigint;
  readonly runs: bigint;
}

const PROGRAM_INFO_SIZE = 232;
const MAX_MAPS_OF_PROGRAM = 64;

/** Maps that it uses are told up to 64, which is all that the kernel allows. */
export function programInfo(fd: number): ProgramInfo {
  const ids = Buffer.alloc(4 * MAX_MAPS_OF_PROGRAM);
  const info = infoOf(fd, PROGRAM_INFO_SIZE, 'program', (request) => {
    writeU32(request, 52, MAX_MAPS_OF_PROGRAM);
    writeU64(request, 56, libbpf().addressOf(ids));
  });
  const count = Math.min(readU32(info, 52), MAX_MAPS_OF_PROGRAM);
  return {
    type: readU32(info, 0),
    id: readU32(info, 4),
    name: textAt(info, 64, 16),
    mapIds: Array.from({ length: count }, (_, index) => readU32(ids, 4 * index)),
    btfId: readU32(info, 128),
    runTimeNs: readU64(info, 192),
    runs: readU64(info, 200),
  };
}

/** What the kernel tells of a map. Names are cut to 15 bytes by the kernel. */
export interface MapInfo {
  readonly type: number;
  readonly id: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string;
  /** 0 for none. */
  readonly btfId: number;
  readonly btfKeyTypeId: number;
  readonly btfValueTypeId: number;
  /** Depends on the type; 0 for most. */
  readonly extra: bigint;
}

const MAP_INFO_SIZE = 88;

export function mapInfo(fd: number): MapInfo {
  const info = infoOf(fd, MAP_INFO_SIZE, 'map');
  return {
    type: readU32(info, 0),
    id: readU32(info, 4),
    keySize: readU32(info, 8),
    valueSize: readU32(info, 12),
    maxEntries: readU32(info, 16),
    flags: readU32(info, 20),
    name: textAt(info, 24, 16),
    btfId: readU32(info, 64),
    btfKeyTypeId: readU32(info, 68),
    btfValueTypeId: readU32(info, 72),
    extra: readU64(info, 80),
  };
}

/** What the kernel tells of a link. */
export interface LinkInfo {
  readonly type: number;
  readonly id: number;
  readonly programId: number;
  /** What depends on the type begins at byte 16: see struct bpf_link_info. */
  readonly raw: Buffer;
}

const LINK_INFO_SIZE = 64;

export function linkInfo(fd: number): LinkInfo {
  const raw = infoOf(fd, LINK_INFO_SIZE, 'link');
  return { type: readU32(raw, 0), id: readU32(raw, 4), programId: readU32(raw, 8), raw };
}

/** Older kernels fill in less, newer ones take a shorter request: what they don't know stays 0. */
function infoOf(fd: number, size: number, noun: string, request?: (info: Buffer) => void): Buffer {
  const info = Buffer.alloc(size);
  const length = Buffer.alloc(4);
  writeU32(length, 0, size);
  request?.(info);
  checked(`asking for a ${noun}`, libbpf().number('bpf_obj_get_info_by_fd', fd, info, length));
  return info;
}

/** A link to make. */
export interface LinkOrder {
  readonly programFd: number;
  /** Index of an interface, or a descriptor of a control group or perf event; 0 for none. */
  readonly target: number;
  /** Number of enum bpf_attach_type. */
  readonly attachType: number;
  readonly flags?: number;
}

const LINK_OPTIONS_SIZE = 64;

/** Makes a link; `doing` is for the error. It ends when its last descriptor does, unless it is pinned. */
export function createLink(doing: string, order: LinkOrder): BpfFd {
  const options = sized(LINK_OPTIONS_SIZE);
  writeU32(options, 8, order.flags ?? 0);
  const { programFd, target, attachType } = order;
  return new BpfFd(checked(doing, libbpf().number('bpf_link_create', programFd, target, attachType, options)));
}

/** Has a link run another function from one event to the next. `EINVAL` for types that can't. */
export function updateLink(doing: string, linkFd: number, programFd: number): void {
  checked(doing, libbpf().number('bpf_link_update', linkFd, programFd, null));
}

/** Ends a link whoever else holds it. Types that can't say EOPNOTSUPP: those end with their last descriptor and pin. */
export function detachLink(doing: string, linkFd: number): void {
  checked(doing, libbpf().number('bpf_link_detach', linkFd));
}

/** Copies the value into `value`, which has to be as large as the kernel's: of maps per processor, 8-aligned for each. */
export function lookupElement(doing: string, mapFd: number, key: Uint8Array, value: Uint8Array): boolean {
  const result = libbpf().number('bpf_map_lookup_elem', mapFd, key, value);
  if (result === -ERRNO.ENOENT) return false;
  checked(doing, result);
  return true;
}

export function updateElement(doing: string, mapFd: number, key: Uint8Array, value: Uint8Array): void {
  checked(doing, libbpf().number('bpf_map_update_elem', mapFd, key, value, 0));
}

/** False if it wasn't there. */
export function deleteElement(doing: string, mapFd: number, key: Uint8Array): boolean {
  const result = libbpf().number('bpf_map_delete_elem', mapFd, key);
  if (result === -ERRNO.ENOENT) return false;
  checked(doing, result);
  return true;
}

/** The key after another, undefined for the first. Undefined at the end. If `key` is gone, it begins anew. */
export function nextKey(doing: string, mapFd: number, key: Uint8Array | undefined, size: number): Buffer | undefined {
  const next = Buffer.alloc(size);
  const result = libbpf().number('bpf_map_get_next_key', mapFd, key ?? null, next);
  if (result === -ERRNO.ENOENT) return undefined;
  checked(doing, result);
  return next;
}

/** Processors that there could be: values of maps per processor have as many. */
export function possibleCpus(): number {
  return checked('counting processors', libbpf().number('libbpf_num_possible_cpus'));
}

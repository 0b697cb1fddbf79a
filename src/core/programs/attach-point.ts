// Where a BPF function is attached, as people write it: "xdp:eth0", "tc:eth0:ingress", "cgroup:/sys/fs/cgroup/web",
// "tracepoint:syscalls:sys_enter_openat", "uprobe:/usr/bin/bash:readline". Pure.
import type { ProgramType } from './program-type.ts';

/** How a driver runs XDP: by itself, in the network stack for any driver, on the card; `auto` leaves it to the kernel. */
export const XDP_MODES = ['auto', 'native', 'generic', 'offload'] as const;
export type XdpMode = (typeof XDP_MODES)[number];

/** A place. */
export type AttachPoint =
  | { readonly kind: 'xdp'; readonly interface: string; readonly mode: XdpMode }
  | { readonly kind: 'tc'; readonly interface: string; readonly direction: 'ingress' | 'egress' }
  /** Absolute path of a control group of version 2. What is hooked there is the function's own. */
  | { readonly kind: 'cgroup'; readonly path: string }
  | { readonly kind: 'tracepoint'; readonly category: string; readonly name: string }
  | { readonly kind: 'raw_tracepoint'; readonly name: string }
  /** Every processor, `hz` times a second. */
  | { readonly kind: 'perf'; readonly event: string; readonly hz: number }
  /** Absolute path of a program or library. `atReturn`: when the function returns. */
  | { readonly kind: 'uprobe'; readonly path: string; readonly symbol: string; readonly atReturn: boolean }
  | { readonly kind: 'kprobe'; readonly symbol: string; readonly atReturn: boolean }
  | { readonly kind: 'fentry' | 'fexit'; readonly function: string }
  | { readonly kind: 'lsm'; readonly hook: string };

/** One of a spec: a place, and which function goes there if the artifact has several that could. */
export interface AttachRequest {
  readonly function: string | undefined;
  readonly point: AttachPoint;
}

/** Kind of place for each type of function. */
export const KIND_OF_TYPE: Readonly<Record<ProgramType, AttachPoint['kind']>> = {
  xdp: 'xdp',
  tc: 'tc',
  cgroup_skb: 'cgroup',
  cgroup_sock: 'cgroup',
  cgroup_sock_addr: 'cgroup',
  tracepoint: 'tracepoint',
  raw_tracepoint: 'raw_tracepoint',
  perf_event: 'perf',
  uprobe: 'uprobe',
  kprobe: 'kprobe',
  fentry: 'fentry',
  fexit: 'fexit',
  lsm: 'lsm',
};

/** Counters of the kernel that "perf:" takes. */
export const PERF_EVENTS = [
  'cpu-clock',
  'task-clock',
  'page-faults',
  'context-switches',
  'cpu-migrations',
  'minor-faults',
  'major-faults',
  'cpu-cycles',
  'instructions',
] as const;

const FUNCTION = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
const SYMBOL = /^[A-Za-z_.$][A-Za-z0-9_.$@]{0,254}$/;
const EVENT = /^[A-Za-z0-9_]{1,127}$/;
const INTERFACE = /^[^\s/:]{1,15}$/;
const PATH = /^\/[^\0\n]{0,1023}$/;
const MAX_HZ = 10_000;

const FORMS: Readonly<Record<string, string>> = {
  xdp: 'xdp:INTERFACE or xdp:INTERFACE:native|generic|offload',
  tc: 'tc:INTERFACE:ingress|egress',
  cgroup: 'cgroup:/PATH',
  tracepoint: 'tracepoint:CATEGORY:NAME',
  raw_tracepoint: 'raw_tracepoint:NAME',
  perf: `perf:EVENT:HZ with one of ${PERF_EVENTS.join(', ')} and 1 to ${MAX_HZ}`,
  uprobe: 'uprobe:/PATH:SYMBOL',
  uretprobe: 'uretprobe:/PATH:SYMBOL',
  kprobe: 'kprobe:SYMBOL',
  kretprobe: 'kretprobe:SYMBOL',
  fentry: 'fentry:FUNCTION',
  fexit: 'fexit:FUNCTION',
  lsm: 'lsm:HOOK',
};

/** What was read, or what is wrong with it and what would be right. */
export type ReadAttach =
  | { readonly ok: true; readonly request: AttachRequest }
  | { readonly ok: false; readonly problem: string };

/** Reads "[function@]kind:…". */
export function parseAttach(text: string): ReadAttach {
  const at = /^([^@:/]+)@/.exec(text);
  const name = at?.[1];
  if (name !== undefined && !FUNCTION.test(name)) {
    return { ok: false, problem: `"${name}" is no name of a BPF function; ${whatIsRight(undefined)}` };
  }
  const place = at === null ? text : text.slice(at[0].length);
  const colon = place.indexOf(':');
  const kind = colon < 0 ? place : place.slice(0, colon);
  const point = colon < 0 || !Object.hasOwn(FORMS, kind) ? undefined : parsePoint(kind, place.slice(colon + 1));
  if (point === undefined) return { ok: false, problem: `"${text}" is no place to attach to; ${whatIsRight(kind)}` };
  return { ok: true, request: { function: name, point } };
}

/** The form that parseAttach reads, without a function. The same place has the same text. */
export function attachText(point: AttachPoint): string {
  switch (point.kind) {
    case 'xdp':
      return point.mode === 'auto' ? `xdp:${point.interface}` : `xdp:${point.interface}:${point.mode}`;
    case 'tc':
      return `tc:${point.interface}:${point.direction}`;
    case 'cgroup':
      return `cgroup:${point.path}`;
    case 'tracepoint':
      return `tracepoint:${point.category}:${point.name}`;
    case 'raw_tracepoint':
      return `raw_tracepoint:${point.name}`;
    case 'perf':
      return `perf:${point.event}:${point.hz}`;
    case 'uprobe':
      return `${point.atReturn ? 'uretprobe' : 'uprobe'}:${point.path}:${point.symbol}`;
    case 'kprobe':
      return `${point.atReturn ? 'kretprobe' : 'kprobe'}:${point.symbol}`;
    case 'lsm':
      return `lsm:${point.hook}`;
    default:
      return `${point.kind}:${point.function}`;
  }
}

/** The form that parseAttach reads, with the function if there is one. */
export function requestText({ function: name, point }: AttachRequest): string {
  return name === undefined ? attachText(point) : `${name}@${attachText(point)}`;
}

function whatIsRight(kind: string | undefined): string {
  const form = kind === undefined || !Object.hasOwn(FORMS, kind) ? undefined : FORMS[kind];
  return `right would be ${form ?? Object.values(FORMS).join('; ')}, after FUNCTION@ if need be`;
}

function parsePoint(kind: string, rest: string): AttachPoint | undefined {
  switch (kind) {
    case 'xdp':
      return parseXdp(rest);
    case 'tc':
      return parseTc(rest);
    case 'cgroup':
      return PATH.test(rest) ? { kind, path: rest.length > 1 ? rest.replace(/\/+$/, '') || '/' : rest } : undefined;
    case 'perf':
      return parsePerf(rest);
    case 'uprobe':
    case 'uretprobe':
      return parseUprobe(rest, kind === 'uretprobe');
    case 'kprobe':
    case 'kretprobe':
      return SYMBOL.test(rest) ? { kind: 'kprobe', symbol: rest, atReturn: kind === 'kretprobe' } : undefined;
    case 'fentry':
    case 'fexit':
      return SYMBOL.test(rest) ? { kind, function: rest } : undefined;
    case 'lsm':
      return EVENT.test(rest) ? { kind, hook: rest } : undefined;
    case 'raw_tracepoint':
      return EVENT.test(rest) ? { kind, name: rest } : undefined;
    default:
      return parseTracepoint(rest);
  }
}

function parseXdp(rest: string): AttachPoint | undefined {
  const [name = '', text = 'auto', ...more] = rest.split(':');
  const mode = XDP_MODES.find((one) => one === text);
  if (!INTERFACE.test(name) || mode === undefined || more.length > 0) return undefined;
  return { kind: 'xdp', interface: name, mode };
}

function parseTc(rest: string): AttachPoint | undefined {
  const [name = '', direction, ...more] = rest.split(':');
  if (!INTERFACE.test(name) || more.length > 0) return undefined;
  return direction === 'ingress' || direction === 'egress' ? { kind: 'tc', interface: name, direction } : undefined;
}

function parseTracepoint(rest: string): AttachPoint | undefined {
  const [category = '', name = '', ...more] = rest.split(':');
  if (!EVENT.test(category) || !EVENT.test(name) || more.length > 0) return undefined;
  return { kind: 'tracepoint', category, name };
}

function parsePerf(rest: string): AttachPoint | undefined {
  const [event = '', text = '', ...more] = rest.split(':');
  const hz = /^[1-9]\d{0,4}$/.test(text) ? Number(text) : 0;
  const known = PERF_EVENTS.some((one) => one === event);
  return known && hz >= 1 && hz <= MAX_HZ && more.length === 0 ? { kind: 'perf', event, hz } : undefined;
}

function parseUprobe(rest: string, atReturn: boolean): AttachPoint | undefined {
  // A path may hold colons, a symbol can't.
  const colon = rest.lastIndexOf(':');
  const path = rest.slice(0, colon);
  const symbol = rest.slice(colon + 1);
  return colon > 0 && PATH.test(path) && SYMBOL.test(symbol) ? { kind: 'uprobe', path, symbol, atReturn } : undefined;
}

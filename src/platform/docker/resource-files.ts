// Where the kernel keeps what a container uses, for cgroup v1, v2 and the hybrid of both, and how these files read.
// Everything here is a few file reads; whatever can't be read makes the whole reading undefined.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ResourceReading } from '../../capabilities/sessions/ports.ts';

/** Files of one container. An empty path: this host doesn't count that. */
export interface ResourceFiles {
  readonly cpu: string;
  readonly memory: string;
  readonly memoryStat: string;
  readonly block: string;
  readonly pids: string;
  readonly network: string;
}

/** Roots of the kernel's files, so that tests can have their own. */
export interface KernelRoots {
  readonly proc: string;
  readonly cgroup: string;
}

/** This host's. */
export const KERNEL_ROOTS: KernelRoots = { proc: '/proc', cgroup: '/sys/fs/cgroup' };

/** Files of the container that a process is the main one of; undefined if they can't be seen from here. */
export function resourceFiles(pid: number, roots: KernelRoots = KERNEL_ROOTS): ResourceFiles | undefined {
  const membership = text(join(roots.proc, String(pid), 'cgroup'));
  if (membership === undefined) return undefined;
  const place = places(membership, roots.cgroup);
  const files: ResourceFiles = {
    cpu: place('cpuacct', 'cpuacct.usage', 'cpu.stat'),
    memory: place('memory', 'memory.usage_in_bytes', 'memory.current'),
    memoryStat: place('memory', 'memory.stat', 'memory.stat'),
    block: place('blkio', 'blkio.throttle.io_service_bytes', 'io.stat'),
    pids: place('pids', 'pids.current', 'pids.current'),
    network: join(roots.proc, String(pid), 'net', 'dev'),
  };
  return files.cpu === '' || files.memory === '' ? undefined : files;
}

/** Reads all counters; undefined if the container has ended. */
export function readResources(files: ResourceFiles, atMs: number): ResourceReading | undefined {
  const cpu = text(files.cpu);
  const memory = text(files.memory);
  const network = text(files.network);
  if (cpu === undefined || memory === undefined || network === undefined) return undefined;
  const [rx, tx] = networkBytes(network);
  const [read, written] = blockBytes(text(files.block) ?? '');
  const reading: ResourceReading = {
    atMs,
    cpuNanos: cpuNanos(cpu),
    memoryBytes: Math.max(0, Number(memory) - droppableBytes(text(files.memoryStat) ?? '')),
    networkRxBytes: rx,
    networkTxBytes: tx,
    blockReadBytes: read,
    blockWriteBytes: written,
    pids: Number(text(files.pids) ?? 0),
  };
  return Object.values(reading).every(Number.isFinite) ? reading : undefined;
}

/** Nanoseconds from cpuacct.usage (v1) or cpu.stat (v2, microseconds). */
export function cpuNanos(content: string): number {
  const micros = /^usage_usec (\d+)$/m.exec(content)?.[1];
  return micros === undefined ? Number(content) : Number(micros) * 1000;
}

/** Page cache that the kernel would drop first, from memory.stat: on v1 of the cgroup and those below. */
export function droppableBytes(content: string): number {
  return Number((/^total_inactive_file (\d+)$/m.exec(content) ?? /^inactive_file (\d+)$/m.exec(content))?.[1] ?? 0);
}

/** Bytes read and written, from io_service_bytes (v1: "8:0 Read 512") or io.stat (v2: "8:0 rbytes=512 wbytes=0 …"). */
export function blockBytes(content: string): readonly [number, number] {
  let read = 0;
  let written = 0;
  for (const [, kind, bytes] of content.matchAll(/^\d+:\d+ (Read|Write) (\d+)$/gm)) {
    if (kind === 'Read') read += Number(bytes);
    else written += Number(bytes);
  }
  for (const [, bytes] of content.matchAll(/\brbytes=(\d+)/g)) read += Number(bytes);
  for (const [, bytes] of content.matchAll(/\bwbytes=(\d+)/g)) written += Number(bytes);
  return [read, written];
}

/** Bytes received and sent over all interfaces but loopback, from /proc/PID/net/dev. */
export function networkBytes(content: string): readonly [number, number] {
  let received = 0;
  let sent = 0;
  for (const line of content.split('\n')) {
    const [, name, counters = ''] = /^\s*([^:\s]+):\s*(.*)$/.exec(line) ?? [];
    if (name === undefined || name === 'lo') continue;
    const fields = counters.split(/\s+/).map(Number);
    received += fields[0] ?? 0;
    sent += fields[8] ?? 0;
  }
  return [received, sent];
}

/** Finds files in the hierarchy that has a controller: a v1 one, or else the unified one. */
function places(membership: string, root: string): (controller: string, v1: string, v2: string) => string {
  const folders = new Map<string, string>();
  let unified: string | undefined;
  for (const line of membership.split('\n')) {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === '') continue;
    if (line.startsWith('0::')) unified = join(root, path);
    for (const controller of controllers.split(',')) folders.set(controller, join(root, controllers, path));
  }
  return (controller, v1, v2) => {
    const folder = folders.get(controller);
    if (folder !== undefined) return join(folder, v1);
    return unified === undefined ? '' : join(unified, v2);
  };
}

/** Undefined for any reason not to read: the process or cgroup is gone, or may not be seen. */
function text(path: string): string | undefined {
  if (path === '') return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (['ENOENT', 'ENODEV', 'ESRCH', 'EACCES', 'EPERM', 'EINVAL', 'EOPNOTSUPP'].includes(code)) return undefined;
    throw error;
  }
}

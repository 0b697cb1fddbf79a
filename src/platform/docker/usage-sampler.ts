// Processor time and peak memory of containers on this host, read from their cgroup files (v1 and v2), because a
// container's cgroup is gone as soon as it has ended and the engine then knows nothing any more. Samples often at first
// and rarer later, and once more at the moment the output ends, which usually is before the engine removes the cgroup.
// Not known: the peak on v2 kernels before 5.19; anything of a container that ended before its first sample.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerUsage } from '../../capabilities/jobs/ports.ts';

const FIRST_DELAY_MS = 5;
/** What waits warm is watched too, for hours. */
const LONGEST_DELAY_MS = 5000;
const CONTAINER_LIMIT = 4096;
/** How long, and how often, the cgroup of a container that is being started is waited for. */
const AWAIT_LIMIT_MS = 5000;
const AWAIT_DELAY_MS = 10;

const ID_MARK = '{id}';

/** Where a container's counters are. */
export interface UsageFiles {
  /** cpuacct.usage (v1, nanoseconds) or cpu.stat (v2, microseconds). */
  readonly cpu: string;
  /** memory.max_usage_in_bytes (v1) or memory.peak (v2). */
  readonly memoryPeak: string;
}

/** A container under watch. */
interface Watched {
  readonly files: UsageFiles;
  readonly giveUpAt: number;
  last: ContainerUsage | undefined;
  timer: NodeJS.Timeout | undefined;
}

/** Samples containers from `watch` until they end; keeps the last sample until `forget`. */
export class UsageSampler implements Disposable {
  readonly #watched = new Map<string, Watched>();
  /** Where this engine keeps counters, with ID_MARK for the container's id. */
  #pattern: UsageFiles | undefined;

  /** Begins to sample; first now. Does nothing if it is watched already. */
  watch(id: string, files: UsageFiles): void {
    if (files.cpu.includes(id) && files.memoryPeak.includes(id)) {
      const { cpu, memoryPeak } = files;
      this.#pattern = { cpu: cpu.replaceAll(id, ID_MARK), memoryPeak: memoryPeak.replaceAll(id, ID_MARK) };
    }
    if (this.#watched.get(id)?.last !== undefined || this.#watched.size >= CONTAINER_LIMIT) return;
    this.forget(id);
    const giveUpAt = performance.now() + AWAIT_LIMIT_MS;
    const watched: Watched = { files, giveUpAt, last: undefined, timer: undefined };
    this.#watched.set(id, watched);
    this.#schedule(watched, FIRST_DELAY_MS);
  }

  /** Begins to sample a container that is about to start, if earlier ones showed where its counters will be. */
  watchAhead(id: string): void {
    if (this.#pattern === undefined) return;
    const { cpu, memoryPeak } = this.#pattern;
    this.watch(id, { cpu: cpu.replaceAll(ID_MARK, id), memoryPeak: memoryPeak.replaceAll(ID_MARK, id) });
  }

  /** True if counters of the container were ever read. */
  knows(id: string): boolean {
    return this.#watched.get(id)?.last !== undefined;
  }

  /** Reads the counters now; the last known ones if the container has ended. Undefined if none were ever read. */
  sample(id: string): ContainerUsage | undefined {
    const watched = this.#watched.get(id);
    if (watched !== undefined) refresh(watched);
    return watched?.last;
  }

  /** Stops and drops what is known. */
  forget(id: string): void {
    clearTimeout(this.#watched.get(id)?.timer);
    this.#watched.delete(id);
  }

  [Symbol.dispose](): void {
    for (const id of this.#watched.keys()) this.forget(id);
  }

  #schedule(watched: Watched, delayMs: number): void {
    const alive = refresh(watched);
    const awaited = watched.last === undefined && performance.now() < watched.giveUpAt;
    if (!alive && !awaited) return;
    const next = awaited ? delayMs : Math.min(delayMs * 2, LONGEST_DELAY_MS);
    watched.timer = setTimeout(() => this.#schedule(watched, next), awaited ? AWAIT_DELAY_MS : delayMs);
    watched.timer.unref();
  }
}

/** The counters' files of the cgroup that a process is in; undefined if it can't be seen from here. */
export function usageFilesOf(pid: number, procRoot = '/proc', cgroupRoot = '/sys/fs/cgroup'): UsageFiles | undefined {
  const membership = pid > 0 ? readText(join(procRoot, String(pid), 'cgroup')) : undefined;
  if (membership === undefined) return undefined;
  let cpu: string | undefined;
  let memoryPeak: string | undefined;
  let unified: string | undefined;
  for (const line of membership.split('\n')) {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(\/.+)$/.exec(line) ?? [];
    if (path === '') continue;
    const names = controllers.split(',');
    if (line.startsWith('0::')) unified = path;
    if (names.includes('cpuacct')) cpu = join(cgroupRoot, controllers, path, 'cpuacct.usage');
    if (names.includes('memory')) memoryPeak = join(cgroupRoot, controllers, path, 'memory.max_usage_in_bytes');
  }
  if (unified !== undefined) {
    cpu ??= join(cgroupRoot, unified, 'cpu.stat');
    memoryPeak ??= join(cgroupRoot, unified, 'memory.peak');
  }
  return cpu === undefined || memoryPeak === undefined ? undefined : { cpu, memoryPeak };
}

/** Reads both counters; undefined if the cgroup is gone. */
export function readUsage(files: UsageFiles): ContainerUsage | undefined {
  const cpu = readText(files.cpu);
  if (cpu === undefined) return undefined;
  const micros = /^usage_usec (\d+)$/m.exec(cpu)?.[1];
  const cpuNanos = micros === undefined ? Number(cpu) : Number(micros) * 1000;
  const memoryPeakBytes = Number(readText(files.memoryPeak) ?? 0);
  return Number.isFinite(cpuNanos) && Number.isFinite(memoryPeakBytes) ? { cpuNanos, memoryPeakBytes } : undefined;
}

/** False if the cgroup is gone. A counter never goes back, so the larger value is the truer one. */
function refresh(watched: Watched): boolean {
  const now = readUsage(watched.files);
  if (now === undefined) return false;
  const last = watched.last ?? now;
  watched.last = {
    cpuNanos: Math.max(now.cpuNanos, last.cpuNanos),
    memoryPeakBytes: Math.max(now.memoryPeakBytes, last.memoryPeakBytes),
  };
  return true;
}

/** Undefined for any reason not to read: the process or cgroup is gone, or may not be seen. */
function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (['ENOENT', 'ENODEV', 'ESRCH', 'EACCES', 'EPERM', 'EOPNOTSUPP'].includes(code)) return undefined;
    throw error;
  }
}

// Measures containers all in one pass: from the kernel's files where the engine runs on this host, which costs some
// microseconds each, else by one-shot calls of the engine's stats API, a few at a time.
import { setImmediate as breathe } from 'node:timers/promises';
import type { MeasuredContainer, ResourceMeter, ResourceReading } from '../../capabilities/sessions/ports.ts';
import type { EngineClient } from './engine-client.ts';
import { type ResourceFiles, readResources, resourceFiles } from './resource-files.ts';

const CALLS_AT_ONCE = 8;
/** So many are read before others get a turn. */
const READS_AT_ONCE = 16;

interface Known {
  readonly pid: number;
  readonly files: ResourceFiles | undefined;
}

interface RawStats {
  readonly cpu_stats?: { readonly cpu_usage?: { readonly total_usage?: number } };
  readonly memory_stats?: {
    readonly usage?: number;
    readonly stats?: { readonly total_inactive_file?: number; readonly inactive_file?: number };
  };
  readonly networks?: Readonly<Record<string, { readonly rx_bytes?: number; readonly tx_bytes?: number }>>;
  readonly blkio_stats?: {
    readonly io_service_bytes_recursive?: readonly { readonly op: string; readonly value: number }[] | null;
  };
  readonly pids_stats?: { readonly current?: number };
}

/** As ResourceMeter promises. */
export class DockerResourceMeter implements ResourceMeter {
  readonly #client: EngineClient;
  /** Where the files of containers were found, for those measured in the last pass. */
  #known = new Map<string, Known>();

  constructor(client: EngineClient) {
    this.#client = client;
  }

  async readResources(
    containers: readonly MeasuredContainer[],
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, ResourceReading>> {
    const readings = new Map<string, ResourceReading>();
    const asked: string[] = [];
    const known = new Map<string, Known>();
    for (const [index, { id, pid }] of containers.entries()) {
      if (index % READS_AT_ONCE === READS_AT_ONCE - 1) await breathe();
      const files = pid === undefined ? undefined : this.#filesOf(id, pid, known);
      const reading = files === undefined ? undefined : readResources(files, Date.now());
      if (reading !== undefined) readings.set(id, reading);
      else if (files === undefined) asked.push(id);
    }
    this.#known = known;
    for (let at = 0; at < asked.length; at += CALLS_AT_ONCE) {
      const batch = asked.slice(at, at + CALLS_AT_ONCE);
      const answers = await Promise.all(batch.map((id) => this.#ask(id, signal)));
      for (const [index, reading] of answers.entries()) if (reading !== undefined) readings.set(batch[index]!, reading);
    }
    return readings;
  }

  #filesOf(id: string, pid: number, known: Map<string, Known>): ResourceFiles | undefined {
    const before = this.#known.get(id);
    const found = before?.pid === pid ? before : { pid, files: resourceFiles(pid) };
    known.set(id, found);
    return found.files;
  }

  async #ask(id: string, signal: AbortSignal | undefined): Promise<ResourceReading | undefined> {
    const what = `read the usage of container ${id.slice(0, 12)}`;
    const path = `/containers/${id}/stats?stream=false&one-shot=true`;
    const stats = await this.#client.found<RawStats>(what, path, signal);
    const cpuNanos = stats?.cpu_stats?.cpu_usage?.total_usage;
    if (stats === undefined || cpuNanos === undefined || cpuNanos === 0) return undefined;
    const { usage = 0, stats: detail } = stats.memory_stats ?? {};
    const networks = Object.values(stats.networks ?? {});
    const block = stats.blkio_stats?.io_service_bytes_recursive ?? [];
    const moved = (op: string) =>
      sumOf(block.filter((entry) => entry.op.toLowerCase() === op).map(({ value }) => value));
    return {
      atMs: Date.now(),
      cpuNanos,
      memoryBytes: Math.max(0, usage - (detail?.total_inactive_file ?? detail?.inactive_file ?? 0)),
      networkRxBytes: sumOf(networks.map(({ rx_bytes = 0 }) => rx_bytes)),
      networkTxBytes: sumOf(networks.map(({ tx_bytes = 0 }) => tx_bytes)),
      blockReadBytes: moved('read'),
      blockWriteBytes: moved('write'),
      pids: stats.pids_stats?.current ?? 0,
    };
  }
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

// Figures of the process itself: processor, memory, files, and how late its event loop is. The timer that looks at the loop is due once
// a second and keeps no process alive; all else is read when somebody asks.
import { readdir, readFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { family, figure, type Histogram, type MetricCollector, type MetricFamily } from '../../core/metrics/metric.ts';
import { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { PROCESS_METRICS } from './process-names.ts';

/** What runs, for `longline_build_info`. */
export interface ProcessBuild {
  /** "agent", "controller". */
  readonly part: string;
  readonly version: string;
  readonly build: string;
}

const LOOK_EVERY_MS = 1_000;

/** The figures of a process; dispose it to let go of its timer. */
export interface ProcessMetrics extends Disposable {
  readonly registry: MetricRegistry;
}

/** A registry with the figures of this process in it. */
export function openProcessMetrics(build: ProcessBuild, clock: Clock, log: Logger): ProcessMetrics {
  const failing = new Set<string>();
  const registry = new MetricRegistry({
    own: { overflows: PROCESS_METRICS.overflows, failures: PROCESS_METRICS.collectorFailures },
    clock,
    onFailure: (collector, error) => {
      // A scraper comes every few seconds: said once.
      const level = failing.has(collector) ? 'debug' : 'warn';
      failing.add(collector);
      log[level]('figures can not be had; those of the other parts are', { collector, err: describeError(error) });
    },
  });
  registry.add(processCollector(build));
  const timer = watchLoop(registry.histogram(PROCESS_METRICS.loopLag));
  return { registry, [Symbol.dispose]: () => clearInterval(timer) };
}

function watchLoop(lag: Histogram): NodeJS.Timeout {
  let dueMs = performance.now() + LOOK_EVERY_MS;
  const look = () => {
    const nowMs = performance.now();
    lag.observe((nowMs - dueMs) / 1000);
    dueMs = nowMs + LOOK_EVERY_MS;
  };
  return setInterval(look, LOOK_EVERY_MS).unref();
}

function processCollector({ part, version, build }: ProcessBuild): MetricCollector {
  const startSeconds = performance.timeOrigin / 1000;
  return {
    name: 'process',
    collect: async (): Promise<readonly MetricFamily[]> => {
      const { user, system } = process.cpuUsage();
      const { rss, heapUsed } = process.memoryUsage();
      const { active } = performance.eventLoopUtilization();
      return [
        figure(PROCESS_METRICS.cpuSeconds, (user + system) / 1e6),
        figure(PROCESS_METRICS.residentBytes, rss),
        figure(PROCESS_METRICS.heapBytes, heapUsed),
        figure(PROCESS_METRICS.openFds, await openFiles()),
        figure(PROCESS_METRICS.maxFds, await mostFiles()),
        figure(PROCESS_METRICS.startTime, startSeconds),
        figure(PROCESS_METRICS.loopBusy, active / 1000),
        family(PROCESS_METRICS.build, [[1, part, version, build, process.version]]),
      ];
    },
  };
}

/** Undefined where there is no /proc. */
async function openFiles(): Promise<number | undefined> {
  try {
    // Less the one that the folder is read with.
    return (await readdir('/proc/self/fd')).length - 1;
  } catch {
    return undefined;
  }
}

async function mostFiles(): Promise<number | undefined> {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(await readFile('/proc/self/limits', 'utf8'))?.[1];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    return undefined;
  }
}

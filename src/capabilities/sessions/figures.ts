// Figures of sessions, from two readings of their resources and what their tunnels moved. Pure.
import type { Rates } from './idle.ts';
import type { ResourceReading } from './ports.ts';

/** What is told of a session's resources; becomes longline.v1.SessionTelemetry. */
export interface Figures {
  readonly sessionId: string;
  readonly reading: ResourceReading;
  /** Since the reading before. */
  readonly cpuCores: number;
  readonly cpuLimit: number;
  readonly memoryLimitBytes: number;
  readonly tunnelInBytes: number;
  readonly tunnelOutBytes: number;
  readonly openTunnels: number;
  readonly starts: number;
}

/** What was used between two readings of the same run; undefined if they are no such two. */
export function ratesBetween(before: ResourceReading | undefined, now: ResourceReading): Rates | undefined {
  if (before === undefined || now.atMs <= before.atMs || now.cpuNanos < before.cpuNanos) return undefined;
  const seconds = (now.atMs - before.atMs) / 1000;
  const moved = (reading: ResourceReading) => reading.networkRxBytes + reading.networkTxBytes;
  return {
    cpuCores: (now.cpuNanos - before.cpuNanos) / 1e9 / seconds,
    networkBytesPerMinute: (Math.max(0, moved(now) - moved(before)) / seconds) * 60,
  };
}

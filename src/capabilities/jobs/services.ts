// What the parts of the capability share.
import type { Clock } from '../../core/clock.ts';
import type { ImagePuller } from '../../core/images/image-puller.ts';
import type { Logger } from '../../core/logger.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { JobsConfig } from './config.ts';
import type { ContainerReaper } from './container-reaper.ts';
import type { EngineWatch } from './engine-watch.ts';
import type { JobQueue } from './job-queue.ts';
import type { ContainerEngine, HostPaths, OutputLogs } from './ports.ts';
import type { RunRecords } from './run-record.ts';
import type { WarmPool } from './warm-pool.ts';

/** Everything a job needs to run; owned by the capability. */
export interface JobServices {
  readonly engine: ContainerEngine;
  readonly logs: OutputLogs;
  readonly records: RunRecords;
  readonly queue: JobQueue;
  readonly puller: ImagePuller;
  readonly pool: WarmPool;
  readonly watch: EngineWatch;
  readonly reaper: ContainerReaper;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer: Tracer;
  readonly config: JobsConfig;
  readonly instanceId: string;
  readonly paths: HostPaths;
  /** When this host was booted, milliseconds since the epoch: what ran before it was cut off. */
  readonly hostBootedAtMs: number;
}

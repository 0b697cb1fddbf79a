// What an agent stands on before anything is connected: settings, data folder, rules, clock and log.
import type { JobsConfig } from '../capabilities/jobs/config.ts';
import type { Clock } from '../core/clock.ts';
import type { Logger } from '../core/logger.ts';
import type { Tracer } from '../core/tracer.ts';
import type { LogLevels } from '../telemetry/logger.ts';
import type { AgentConfig } from './config.ts';
import type { DataFolder } from './data-folder.ts';
import type { Leadership } from './ha/leadership.ts';
import type { LoopPulse } from './health/loop-pulse.ts';
import type { LiveSettings } from './live-settings.ts';
import type { LocalServer } from './local/local-server.ts';
import type { AgentMetrics } from './metrics/agent-metrics.ts';
import type { Rules } from './rules.ts';

/** What there is of an agent's folder and settings. */
export interface FolderFoundation extends Rules {
  /** As it was at the start. What a reload may change is read from `settings`. */
  readonly config: AgentConfig;
  readonly settings: LiveSettings;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer: Tracer;
  readonly levels: LogLevels;
  readonly folder: DataFolder;
  readonly jobs: JobsConfig;
  /** Whether, and in which epoch, this replica leads. */
  readonly leadership: Leadership;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** What there is before anything is connected. */
export interface Foundation extends FolderFoundation {
  /** Of the process, which may serve several times. */
  readonly metrics: AgentMetrics;
  readonly pulse: LoopPulse;
  /** Where the local service is, if the process has a place for it that stays. */
  readonly localServer: LocalServer | undefined;
}

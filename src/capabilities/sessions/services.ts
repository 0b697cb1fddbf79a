// What all sessions of a host share.
import type { HostEvent } from '../../core/capability.ts';
import type { Clock } from '../../core/clock.ts';
import type { ImagePuller } from '../../core/images/image-puller.ts';
import type { Logger } from '../../core/logger.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { SessionsConfig } from './config.ts';
import type { SessionEngine, SessionLogs, SessionMeter } from './ports.ts';
import type { SessionRecords } from './record.ts';

/** Shared by sessions; none of it is a session's to dispose. */
export interface SessionServices {
  readonly engine: SessionEngine;
  readonly logs: SessionLogs;
  readonly puller: ImagePuller;
  readonly records: SessionRecords;
  readonly meter: SessionMeter;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer: Tracer;
  readonly config: SessionsConfig;
  readonly instanceId: string;
  /** Changes when the host boots. */
  readonly bootId: string;
  emit(event: HostEvent): void;
  /** Number of the next report. */
  nextReport(): number;
}

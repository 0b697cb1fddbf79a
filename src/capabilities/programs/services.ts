// What the parts of the capability share.
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { Announcer } from './announcer.ts';
import type { ProgramsConfig } from './config.ts';
import type { Moment } from './lifetime.ts';
import type { Listing } from './listing.ts';
import type { Kernel, KernelSupport } from './ports.ts';
import type { Preparation } from './preparation.ts';
import type { Quarantine } from './quarantine.ts';
import type { ProgramRecords } from './record.ts';
import type { RevisionRecord } from './revision-record.ts';
import type { RollbackHistory } from './rollback.ts';
import type { Room } from './room.ts';

/** One set per open capability. */
export interface ProgramServices {
  readonly kernel: Kernel;
  readonly listing: Listing;
  readonly preparation: Preparation;
  readonly records: ProgramRecords;
  readonly quarantine: Quarantine;
  readonly history: RollbackHistory;
  readonly room: Room;
  readonly announcer: Announcer;
  readonly surveillance: Surveillance;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer: Tracer;
  readonly config: ProgramsConfig;
  /** As it was probed last. */
  readonly support: () => KernelSupport;
  /** What the clocks say. */
  readonly moment: () => Moment;
  /** Has another program give its place up; resolves once nothing of it is loaded. */
  readonly makeRoom: (oldest: string, by: string, signal: AbortSignal) => Promise<void>;
}

/** Who watches what programs do. */
export interface Surveillance {
  /** A revision was loaded, and is attached nowhere yet. May throw: then it is measured from the first look on. */
  loaded(name: string, revision: RevisionRecord, signal: AbortSignal): Promise<void>;
  /** This revision of a program runs now, and no other. */
  running(name: string, revision: RevisionRecord): void;
  /** Nothing of a program runs any more. */
  stopped(name: string): void;
}

// What the parts of the capability share.
import type { StateStore } from '../../core/capability.ts';
import type { Clock } from '../../core/clock.ts';
import type { HostEvents } from '../../core/host-events.ts';
import type { Logger } from '../../core/logger.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { Turns } from '../../core/turns.ts';
import type { NetworkConfig } from './config.ts';
import type { Forwarding } from './forwarding.ts';
import type { HostKeys } from './keys.ts';
import type { NameResolution } from './name-resolution.ts';
import type { NetworkSystem } from './ports.ts';
import type { NetworkRecords } from './record.ts';

/** One set per open capability. */
export interface NetworkServices {
  readonly system: NetworkSystem;
  readonly keys: HostKeys;
  readonly forwarding: Forwarding;
  readonly nameResolution: NameResolution;
  /** For what all networks share: forwarding and name servers. */
  readonly turns: Turns;
  readonly records: NetworkRecords;
  readonly events: HostEvents;
  readonly state: StateStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer: Tracer;
  readonly config: NetworkConfig;
  /** Interfaces by the network that has them, so that two never work on one. */
  readonly interfaces: Map<string, string>;
}

// What the link server is made from, and its bounds.
import type { TelemetryRequest } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { Bus } from '../bus/bus.ts';
import type { AdmissionLimits } from '../front/admission.ts';
import type { AgentAuthenticator } from '../identity/agent-authentication.ts';
import type { LogStore } from '../logs/log-store.ts';
import type { LinkMeter } from '../metrics/link-meter.ts';
import type { StatementSigner } from '../signer/statement-signer.ts';
import type { Store } from '../store/store.ts';

/** Protocol versions this controller speaks. */
export const PROTOCOL = { min: 1, max: 1 } as const;

/** Bounds and periods of the link. */
export interface LinkOptions {
  readonly heartbeatMs: number;
  /** Hello has to come within this. */
  readonly helloTimeoutMs: number;
  /** How long a stream that was replaced by a newer one is still read. */
  readonly replacedGraceMs: number;
  /** Signs of life are written to the store this often, all agents together. */
  readonly sightingIntervalMs: number;
  readonly maxMessageBytes: number;
  /** Most commands sent and not yet confirmed by one agent. */
  readonly windowCommands: number;
  /** Writes to the store that one stream may have under way before it is read no further. */
  readonly maxPendingWrites: number;
  /** Events kept of each agent. */
  readonly keptEvents: number;
  readonly admission: AdmissionLimits;
  readonly telemetryIntervalMs: number;
}

/** Options as a single controller uses them. */
export const DEFAULT_LINK_OPTIONS: LinkOptions = {
  heartbeatMs: 15_000,
  helloTimeoutMs: 10_000,
  replacedGraceMs: 10_000,
  sightingIntervalMs: 5000,
  maxMessageBytes: 4 * 1024 * 1024,
  windowCommands: 32,
  maxPendingWrites: 256,
  keptEvents: 1000,
  admission: { perSecond: 2000, burst: 4000 },
  telemetryIntervalMs: 10_000,
};

/** What the link server is made from. */
export interface LinkDependencies {
  readonly store: Store;
  readonly bus: Bus;
  readonly logs: LogStore;
  readonly identities: Pick<AgentAuthenticator, 'authenticate'>;
  readonly controllerId: string;
  /** Names this process among the replicas of the controller. */
  readonly replicaId: string;
  /** Signs what is wanted of agents. */
  readonly signer: Pick<StatementSigner, 'sign'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
  readonly options: LinkOptions;
  readonly meter: LinkMeter;
  /** Takes figures of agents; must be quick and must not throw. */
  readonly onTelemetry?: (agentId: string, figures: TelemetryRequest) => void;
}

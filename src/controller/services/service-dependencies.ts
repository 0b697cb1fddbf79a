// What the services are made from.
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { Bus } from '../bus/bus.ts';
import type { LogStore } from '../logs/log-store.ts';
import type { StatementSigner } from '../signer/statement-signer.ts';
import type { Store } from '../store/store.ts';

/** Bounds of waits. */
export interface ServiceOptions {
  /** After an execution ended: how long its log may stand still before it is given up. */
  readonly logSettleMs: number;
  /** Longest wait between two looks at the store, should a wake-up have been lost. */
  readonly recheckMs: number;
  /** Longest wait of WriteInput for room. */
  readonly inputWaitMs: number;
  /** How long a revoked agent's connection is left open, so that it hears why it ends. */
  readonly revokeGraceMs: number;
}

/** Options as a controller uses them. */
export const DEFAULT_SERVICE_OPTIONS: ServiceOptions = {
  logSettleMs: 30_000,
  recheckMs: 30_000,
  inputWaitMs: 30_000,
  revokeGraceMs: 200,
};

/** What the services are made from. */
export interface ServiceDependencies {
  readonly store: Store;
  readonly bus: Bus;
  readonly logs: LogStore;
  readonly signer: StatementSigner;
  /** Cuts the connections of an agent, or of one replica of it. */
  readonly disconnectAgent: (agentId: string, instanceId?: string) => void;
  readonly clock: Clock;
  readonly log: Logger;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
  readonly options: ServiceOptions;
}

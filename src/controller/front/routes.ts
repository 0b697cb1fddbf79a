// The seam between the front, which owns connections, and the services, which own meaning. Services are handed in by
// controller.ts; the front knows none of them by name.

import type { DescService } from '@bufbuild/protobuf';
import type { ConnectRouter } from '@connectrpc/connect';
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import type { Progress } from '../../core/progress.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { KeepOptions } from '../config.ts';
import type { AgentAuthenticator } from '../identity/agent-authentication.ts';
import type { ApiTokens } from '../identity/api-tokens.ts';
import type { ControllerSigningKey } from '../identity/controller-signing-key.ts';
import type { ControllerMetrics } from '../metrics/controller-metrics.ts';
import type { Store } from '../store/store.ts';
import type { GrpcServiceRegistry } from './grpc-service.ts';
import type { RequestHandler, UpgradeHandler } from './http-handlers.ts';

/** Services for agents, on the grpc-js stack. */
export interface AgentRoutes {
  /** Adds the services. Called once, before the first connection. */
  register(registry: GrpcServiceRegistry): void;
  /**
   * Asks every connected agent to leave within the window and resolves when all streams have ended, at the latest when
   * the window has passed. Called once, at shutdown; new streams are refused with `unavailable` from then on.
   */
  drain(windowMs: number, reason: string): Promise<void>;
}

/** Adds services for operators to the Connect stack. Called once, before the first connection. */
export type OperatorRoutes = (router: ConnectRouter) => void;

/** What services are made from. */
export interface ServiceParts {
  readonly store: Store;
  /** Directory for log segments; exists and is private. */
  readonly logDirectory: string;
  /** In statements and certificates. */
  readonly controllerId: string;
  readonly signingKey: ControllerSigningKey;
  /** Tells who makes a call on the agents' stack; throws `identity`. */
  readonly agents: AgentAuthenticator;
  /** Tells who makes a call on the operators' stack where no interceptor does; throws `identity`. */
  readonly tokens: ApiTokens;
  /** Origins of pages beside the controller's own that may open WebSockets. Read at each use: a reload may change them. */
  readonly allowedOrigins: readonly string[];
  /** Largest message either way, for Welcome.max_message_bytes. */
  readonly maxMessageBytes: number;
  /** Period of heartbeats each way. */
  readonly heartbeatMs: number;
  /** Read at each use: a reload may change it. */
  readonly keep: KeepOptions;
  /** Left out to count nothing. */
  readonly metrics?: Pick<ControllerMetrics, 'link' | 'measureStreams'>;
  /** Cuts the connections of an agent, or of one replica of it, after their revocation was stored. */
  readonly disconnectAgent: (agentId: string, instanceId?: string) => void;
  readonly clock: Clock;
  readonly log: Logger;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
}

/** The services of a controller beyond identity. Disposed after the front; then nothing calls them any more. */
export interface ControllerServices extends AsyncDisposable {
  readonly agentRoutes: AgentRoutes;
  readonly operatorRoutes: OperatorRoutes;
  /** What `operatorRoutes` serves, for reflection and health. */
  readonly operatorServices: readonly DescService[];
  /** Serves what is no RPC; left out for 404. */
  readonly pages?: RequestHandler;
  /** Serves agents over HTTP/1.1, which hear nobody else; left out for 404. */
  readonly agentPages?: RequestHandler;
  /** Agents whose control stream is open. */
  readonly agentsConnected: () => number;
  /** Whatever must get on. */
  readonly tasks: () => readonly Progress[];
  /** Left out to refuse all upgrades. */
  readonly upgrades?: UpgradeHandler;
}

/** Makes the services; nothing is served before its promise resolves. */
export type OpenServices = (parts: ServiceParts) => Promise<ControllerServices>;

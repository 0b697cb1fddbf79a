// A real front on loopback with identity kept in memory, a small service for agents and the operators' services, for
// tests of what crosses the port. Everything lives in a temporary folder and is gone after dispose.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import type { ConnectRouter } from '@connectrpc/connect';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { Health } from '#gen/health/v1/health_pb.js';
import { AgentService } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { EnrollmentService } from '#gen/longline/link/v1/enrollment_pb.js';
import { AgentLinkService, type ControllerMessage, ControllerMessageSchema } from '#gen/longline/link/v1/link_pb.js';
import { Front } from '../../../src/controller/front/front.ts';
import { messagesOf, serveGrpc } from '../../../src/controller/front/grpc-service.ts';
import { healthService } from '../../../src/controller/front/health.ts';
import { DEFAULT_FRONT_LIMITS, type FrontLimits } from '../../../src/controller/front/limits.ts';
import { reflectionRoutes } from '../../../src/controller/front/reflection.ts';
import { AgentAuthenticator } from '../../../src/controller/identity/agent-authentication.ts';
import { AgentKeys } from '../../../src/controller/identity/agent-keys.ts';
import { ApiTokens } from '../../../src/controller/identity/api-tokens.ts';
import { authorize, callerOf } from '../../../src/controller/identity/authorization.ts';
import {
  type ControllerIdentity,
  openControllerIdentity,
} from '../../../src/controller/identity/controller-identity.ts';
import { DataDirectory } from '../../../src/controller/identity/data-directory.ts';
import { Enrollment } from '../../../src/controller/identity/enrollment.ts';
import { enrollmentRoutes, serveEnrollment } from '../../../src/controller/identity/enrollment-routes.ts';
import type { IdentityRepositories } from '../../../src/controller/identity/ports.ts';
import { tokenRoutes } from '../../../src/controller/identity/token-routes.ts';
import { type Clock, systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { DescriptorIndex } from '../../../src/core/grpc-reflection.ts';
import { HealthState } from '../../../src/core/health-state.ts';
import type { LogFields, Logger } from '../../../src/core/logger.ts';
import { memoryRepositories } from '../../fixtures/identity-memory.ts';

/** What a test may change. */
export interface FrontFixtureOptions {
  readonly limits?: Partial<FrontLimits>;
  readonly clock?: Clock;
  readonly folder?: string;
  readonly repositories?: IdentityRepositories;
  readonly renewalCheckMs?: number;
  readonly certificateLifetimeMs?: number;
}

/** A line that was logged. */
export interface LoggedLine {
  readonly level: string;
  readonly message: string;
  readonly fields: LogFields;
}

/** A logger that keeps what it is given. */
export function recordingLogger(lines: LoggedLine[]): Logger {
  const record =
    (level: string) =>
    (message: string, fields: LogFields = {}) =>
      void lines.push({ level, message, fields });
  const logger: Logger = {
    debug: record('debug'),
    info: record('info'),
    warn: record('warn'),
    error: record('error'),
    child: () => logger,
  };
  return logger;
}

/** Services whose descriptors the fixture reflects. */
const SERVICES = [AgentService, TokenService, EnrollmentService, Health];

/** A running front and what is needed to talk to it. */
export class FrontFixture implements AsyncDisposable {
  readonly folder: string;
  readonly port: number;
  readonly front: Front;
  readonly identity: ControllerIdentity;
  readonly repositories: IdentityRepositories;
  readonly enrollment: Enrollment;
  readonly apiTokens: ApiTokens;
  readonly agentKeys: AgentKeys;
  readonly lines: LoggedLine[];
  readonly drained: string[];
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Omit<FrontFixture, 'url' | 'ca' | 'openSession' | typeof Symbol.asyncDispose>,
    stack: AsyncDisposableStack,
  ) {
    this.folder = parts.folder;
    this.port = parts.port;
    this.front = parts.front;
    this.identity = parts.identity;
    this.repositories = parts.repositories;
    this.enrollment = parts.enrollment;
    this.apiTokens = parts.apiTokens;
    this.agentKeys = parts.agentKeys;
    this.lines = parts.lines;
    this.drained = parts.drained;
    this.#stack = stack;
  }

  get url(): string {
    return `https://localhost:${this.port}`;
  }

  /** PEM of the controller's CA. */
  get ca(): string {
    return this.identity.authority.certificatePem;
  }

  static async start(options: FrontFixtureOptions = {}): Promise<FrontFixture> {
    await using stack = new AsyncDisposableStack();
    const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'longline-front-')));
    if (options.folder === undefined) stack.defer(() => rm(folder, { recursive: true, force: true }));
    const clock = options.clock ?? systemClock;
    const directory = stack.use(await DataDirectory.open(folder));
    const identity = await openControllerIdentity(directory, ['localhost', '127.0.0.1'], clock);
    const repositories = options.repositories ?? memoryRepositories();
    const lines: LoggedLine[] = [];
    const drained: string[] = [];
    const log = recordingLogger(lines);
    const agents = new AgentAuthenticator(repositories.agentIdentities, identity.controllerId, clock);
    const apiTokens = new ApiTokens(repositories.apiTokens, clock);
    const agentKeys = new AgentKeys(repositories.agentIdentities, clock);
    const enrollment = new Enrollment({
      tokens: repositories.enrollmentTokens,
      identities: repositories.agentIdentities,
      ...identity,
      clock,
      log,
      ...(options.certificateLifetimeMs === undefined ? {} : { certificateLifetimeMs: options.certificateLifetimeMs }),
    });
    const health = new HealthState(SERVICES.map((service) => service.typeName));
    const front = stack.use(
      await Front.create({
        directory,
        serverCertificate: identity.serverCertificate,
        clientAuthority: identity.authority.certificatePem,
        controllerId: identity.controllerId,
        agents,
        agentRoutes: {
          register: (registry) => {
            serveEnrollment(registry, enrollment, agents, log);
            serveGrpc(registry, AgentLinkService, echoLink(agents), log);
          },
          drain: (_windowMs, reason) => Promise.resolve(void drained.push(reason)),
        },
        operatorRoutes: (router) => {
          router.service(
            TokenService,
            tokenRoutes({ repositories, apiTokens, agentKeys, pin: identity.authority.pin, clock }),
          );
          router.service(Health, healthService(health));
          reflectionRoutes(router, new DescriptorIndex(SERVICES));
          enrollmentRoutes(router, enrollment);
          fakeAgentService(router);
        },
        authorize: authorize(apiTokens, clock),
        health,
        limits: { ...DEFAULT_FRONT_LIMITS, ...options.limits },
        clock,
        log,
        ...(options.renewalCheckMs === undefined ? {} : { renewalCheckMs: options.renewalCheckMs }),
      }),
    );
    const { port } = await front.listen('127.0.0.1', 0);
    const parts = { folder, port, front, identity, repositories, enrollment, apiTokens, agentKeys, lines, drained };
    return new FrontFixture(parts, stack.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

/** Answers each message on Control with a heartbeat that carries the caller's id in its length; ends when the peer does. */
function echoLink(agents: AgentAuthenticator) {
  return {
    control: async (call: ServerDuplexStream<unknown, ControllerMessage>) => {
      const { agentId, via } = await agents.authenticate(call);
      for await (const _ of messagesOf(call)) {
        call.write(
          create(ControllerMessageSchema, { message: { case: 'drain', value: { reason: `${agentId} ${via}` } } }),
        );
      }
    },
    telemetry: () => Promise.reject(new LonglineError('limit', 'too busy', { retryAfterMs: 1500 })),
    tunnel: () => Promise.reject(new Error('a secret of the inside')),
  };
}

function fakeAgentService(router: ConnectRouter): void {
  router.service(AgentService, {
    listAgents: (_request, context) => ({
      agents: [{ id: callerOf(context).name }],
      nextPageToken: callerOf(context).role,
    }),
    getAgent: ({ agentId }) => {
      if (agentId === 'crash') throw new Error('a secret of the inside');
      throw new LonglineError('not_found', `agent_id: there is no agent ${agentId}`);
    },
    async *watchAgents(_request, { signal }) {
      for (let i = 0; !signal.aborted; i++) {
        yield { change: { case: 'removedAgentId' as const, value: `a${i}` } };
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = setTimeout(resolve, 20);
        signal.addEventListener('abort', () => resolve(), { once: true });
        await promise;
        clearTimeout(timer);
      }
      throw signal.reason;
    },
  });
}

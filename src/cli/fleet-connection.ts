// One HTTP/2 connection to the controller's public API. Unary calls carry a deadline; streams have none and rely on
// PING, so that a peer that went away without a word is noticed within half a minute.
import { type Client, createClient, type Interceptor } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import type { Command } from 'commander';
import { AgentService } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { JobService } from '#gen/longline/fleet/v1/job_service_pb.js';
import { NetworkService } from '#gen/longline/fleet/v1/network_service_pb.js';
import { ProgramService } from '#gen/longline/fleet/v1/program_service_pb.js';
import { SessionService } from '#gen/longline/fleet/v1/session_service_pb.js';
import { TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { LonglineError } from '../core/errors.ts';
import { withTrace } from './call-tracing.ts';
import { globalOptions } from './global-options.ts';
import type { CliIo } from './io.ts';
import { defaultContextPath, type OperatorContext, readContext } from './operator-context.ts';
import { fromWire } from './wire-errors.ts';

const BRING_UP_LIMIT_MS = 10_000;
const PING_INTERVAL_MS = 15_000;
const PING_TIMEOUT_MS = 10_000;
const LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024;

/** Clients of the public API over one connection, which is made at the first call. Dispose to close it. */
export class Fleet implements Disposable {
  readonly context: OperatorContext;
  readonly agents: Client<typeof AgentService>;
  readonly jobs: Client<typeof JobService>;
  readonly networks: Client<typeof NetworkService>;
  readonly programs: Client<typeof ProgramService>;
  readonly sessions: Client<typeof SessionService>;
  readonly tokens: Client<typeof TokenService>;
  /** For calls that stream: without a deadline. Await `bringUp` first. */
  readonly streams: {
    readonly agents: Client<typeof AgentService>;
    readonly jobs: Client<typeof JobService>;
    readonly programs: Client<typeof ProgramService>;
    readonly sessions: Client<typeof SessionService>;
  };
  readonly #session: Http2SessionManager;

  /** @param calls what further is done with each call. */
  constructor(context: OperatorContext, timeoutMs: number, calls: readonly Interceptor[] = []) {
    this.context = context;
    this.#session = new Http2SessionManager(
      context.url,
      { pingIntervalMs: PING_INTERVAL_MS, pingTimeoutMs: PING_TIMEOUT_MS },
      context.caPem === undefined ? {} : { ca: context.caPem },
    );
    const authorize: Interceptor = (next) => (request) => {
      request.header.set('authorization', `Bearer ${context.token.reveal()}`);
      return next(request);
    };
    const options = {
      baseUrl: context.url,
      sessionManager: this.#session,
      interceptors: [...calls, authorize],
      acceptCompression: [],
      readMaxBytes: LARGEST_MESSAGE_BYTES,
    };
    const unary = createGrpcTransport({ ...options, defaultTimeoutMs: timeoutMs });
    const streaming = createGrpcTransport(options);
    this.agents = createClient(AgentService, unary);
    this.jobs = createClient(JobService, unary);
    this.networks = createClient(NetworkService, unary);
    this.programs = createClient(ProgramService, unary);
    this.sessions = createClient(SessionService, unary);
    this.tokens = createClient(TokenService, unary);
    this.streams = {
      agents: createClient(AgentService, streaming),
      jobs: createClient(JobService, streaming),
      programs: createClient(ProgramService, streaming),
      sessions: createClient(SessionService, streaming),
    };
  }

  /** Resolves once there is a connection; throws `unavailable` after 10 s without one. */
  async bringUp(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, BRING_UP_LIMIT_MS, 'late');
    });
    const state = await Promise.race([this.#session.connect(), limit]);
    clearTimeout(timer);
    if (state === 'late') {
      this.#session.abort();
      throw new LonglineError(
        'unavailable',
        `the controller at ${this.context.url} did not answer within ${BRING_UP_LIMIT_MS / 1000} s; check address and network`,
      );
    }
    if (state === 'error') throw this.#session.error();
  }

  /** What a call threw, as a LonglineError where it came from the controller or the connection. */
  toError(thrown: unknown): unknown {
    return fromWire(thrown, this.context.url);
  }

  [Symbol.dispose](): void {
    this.#session.abort();
  }
}

/** Runs `work` with the controller of the command's context and closes the connection after it. */
export async function withFleet<T>(io: CliIo, command: Command, work: (fleet: Fleet) => Promise<T>): Promise<T> {
  const { contextPath, timeoutMs } = globalOptions(command, io);
  const context = await readContext(contextPath ?? defaultContextPath(io.env));
  return await withTrace(io, command, async (traced) => {
    using fleet = new Fleet(context, timeoutMs, [traced]);
    try {
      return await work(fleet);
    } catch (error) {
      throw fleet.toError(error);
    }
  });
}

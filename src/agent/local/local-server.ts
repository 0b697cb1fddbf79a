// The agent's own service on a unix socket: status, commands, policy questions, reload; with reflection and health so
// that generic gRPC tools work on the host. The socket is 0600: who may read it may also read the agent's data folder.

import { chmod, rm } from 'node:fs/promises';
import { create } from '@bufbuild/protobuf';
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  type ApplyNetworkRequest,
  type ApplyNetworkResponse,
  ApplyNetworkResponseSchema,
  type ExplainJobRequest,
  type ExplainJobResponse,
  ExplainJobResponseSchema,
  type ExplainSessionRequest,
  type ExplainSessionResponse,
  ExplainSessionResponseSchema,
  type GetHealthResponse,
  GetHealthResponseSchema,
  type GetStatusResponse,
  GetStatusResponseSchema,
  type ListCommandsResponse,
  ListCommandsResponseSchema,
  type ListNetworksResponse,
  ListNetworksResponseSchema,
  type ListProgramsResponse,
  ListProgramsResponseSchema,
  type ListRollbacksResponse,
  ListRollbacksResponseSchema,
  LocalService,
  type ReleaseQuarantineRequest,
  type ReleaseQuarantineResponse,
  ReleaseQuarantineResponseSchema,
  type ReloadResponse,
  ReloadResponseSchema,
  type RemoveNetworkRequest,
  RemoveNetworkResponseSchema,
  type RollBackProgramRequest,
  type RollBackProgramResponse,
  RollBackProgramResponseSchema,
  type SetLogLevelRequest,
  type SetLogLevelResponse,
  SetLogLevelResponseSchema,
} from '#gen/longline/local/v1/local_pb.js';
import { describeError, GRPC_CODE, LonglineError, toLonglineError } from '../../core/errors.ts';
import { grpcServiceDefinition } from '../../core/grpc-definition.ts';
import { DescriptorIndex } from '../../core/grpc-reflection.ts';
import { HealthState } from '../../core/health-state.ts';
import type { Logger } from '../../core/logger.ts';
import { Shown } from '../../core/shown.ts';
import { noTracer, type Tracer } from '../../core/tracer.ts';
import { tracedServer } from '../../telemetry/tracing/grpc-calls.ts';
import { addHealth, addReflection } from './open-services.ts';
import { freeSocketPath } from './socket-path.ts';

const CLOSE_LIMIT_MS = 2_000;
/** A network of 65,536 peers with a dozen prefixes each. */
const MAX_REQUEST_BYTES = 32 * 1024 * 1024;

/** Init shape of a message: what `create` takes. */
type Init<Message> = Partial<Omit<Message, '$typeName' | '$unknown'>>;

/** What the service does for networks. */
export interface NetworkCalls {
  apply(request: ApplyNetworkRequest): Promise<Init<ApplyNetworkResponse>>;
  remove(request: RemoveNetworkRequest): Promise<void>;
  list(): Promise<Init<ListNetworksResponse>>;
}

/** What the service does for programs. */
export interface ProgramCalls {
  list(): Promise<Init<ListProgramsResponse>>;
  rollbacks(): Promise<Init<ListRollbacksResponse>>;
  rollBack(request: RollBackProgramRequest): Promise<Init<RollBackProgramResponse>>;
  release(request: ReleaseQuarantineRequest): Promise<Init<ReleaseQuarantineResponse>>;
}

/** Parts that the service may have; calls of what isn't there are answered as unimplemented. */
export interface LocalParts {
  readonly view?: LocalView;
  readonly networks?: NetworkCalls;
  readonly programs?: ProgramCalls;
}

/** What the service tells and does of an agent. */
export interface LocalView {
  status(): Promise<Init<GetStatusResponse>>;
  health(): Promise<Init<GetHealthResponse>>;
  /** Throws `invalid` for a level that there isn't. */
  setLogLevel(request: SetLogLevelRequest): Promise<Init<SetLogLevelResponse>>;
  commands(): Promise<Init<ListCommandsResponse>>;
  explain(request: ExplainJobRequest): Promise<Init<ExplainJobResponse>>;
  explainSession(request: ExplainSessionRequest): Promise<Init<ExplainSessionResponse>>;
  /** What is now in force. Throws LonglineError if anything is bad; then all stays as it was. */
  reload(): Promise<Init<ReloadResponse>>;
}

/** Somewhere to serve LocalService from. Dispose to stop. */
export interface LocalSurface extends AsyncDisposable {
  /** Serves from now on. Throws if there is no place for it. */
  open(): Promise<void>;
  /** What health checks answer. */
  readonly serving: boolean;
  setServing(serving: boolean): void;
}

/** Serves LocalService. Dispose to stop and remove the socket. */
export class LocalServer implements LocalSurface {
  readonly #path: string;
  readonly #parts = new Shown<LocalParts>();
  readonly #server: Server;
  readonly #health = new HealthState([]);
  readonly #log: Logger;
  #bound = false;

  constructor(path: string, parts: LocalParts, log: Logger, tracer: Tracer = noTracer) {
    this.#path = path;
    this.#log = log;
    this.#parts.show(parts);
    this.#server = new Server({
      'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
      interceptors: tracedServer(tracer),
    });
    this.#server.addService(grpcServiceDefinition(LocalService), {
      ...this.#agentHandlers(),
      ...this.#networkHandlers(),
      ...this.#programHandlers(),
    });
    this.#health.setAll(false);
    addHealth(this.#server, this.#health);
    addReflection(this.#server, new DescriptorIndex([LocalService]));
  }

  /** Binds, if it isn't bound. A socket left by a dead agent is replaced; one that answers is `already_exists`. */
  async open(): Promise<void> {
    if (this.#bound) return;
    await freeSocketPath('local-socket', this.#path);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const previousMask = process.umask(0o177);
    this.#server.bindAsync(`unix:${this.#path}`, ServerCredentials.createInsecure(), (error) => {
      process.umask(previousMask);
      if (error === null) resolve();
      else reject(new LonglineError('unavailable', `local-socket: can't listen on ${this.#path}`, { cause: error }));
    });
    await promise;
    this.#bound = true;
    await chmod(this.#path, 0o600);
  }

  /** What health checks answer. */
  get serving(): boolean {
    return this.#health.status('') ?? false;
  }

  /** What health checks answer, for the agent as a whole. */
  setServing(serving: boolean): void {
    this.#health.setAll(serving);
  }

  /** Lets others answer here, from when they are opened until they are disposed; the socket stays. */
  lend(parts: LocalParts): LocalSurface {
    const server = this;
    let shown: Disposable | undefined;
    let before = false;
    return {
      open: async () => {
        await server.open();
        before = server.serving;
        server.setServing(false);
        shown ??= server.#parts.show(parts);
      },
      get serving() {
        return shown !== undefined && server.serving;
      },
      setServing: (serving) => server.setServing(serving),
      [Symbol.asyncDispose]: async () => {
        if (shown === undefined) return;
        shown[Symbol.dispose]();
        shown = undefined;
        server.setServing(before);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const limit = setTimeout(() => {
      this.#server.forceShutdown();
      resolve();
    }, CLOSE_LIMIT_MS);
    this.#server.tryShutdown(() => resolve());
    await promise;
    clearTimeout(limit);
    // Another process may serve this path: remove only what this one bound.
    if (this.#bound) await rm(this.#path, { force: true });
  }

  #agentHandlers(): UntypedServiceImplementation {
    return {
      getStatus: this.#unary(async () => create(GetStatusResponseSchema, await this.#part('view').status())),
      getHealth: this.#unary(async () => create(GetHealthResponseSchema, await this.#part('view').health())),
      setLogLevel: this.#unary(async (request: SetLogLevelRequest) =>
        create(SetLogLevelResponseSchema, await this.#part('view').setLogLevel(request)),
      ),
      listCommands: this.#unary(async () => create(ListCommandsResponseSchema, await this.#part('view').commands())),
      explainJob: this.#unary(async (request: ExplainJobRequest) =>
        create(ExplainJobResponseSchema, await this.#part('view').explain(request)),
      ),
      explainSession: this.#unary(async (request: ExplainSessionRequest) =>
        create(ExplainSessionResponseSchema, await this.#part('view').explainSession(request)),
      ),
      reload: this.#unary(async () => create(ReloadResponseSchema, await this.#part('view').reload())),
    };
  }

  #networkHandlers(): UntypedServiceImplementation {
    return {
      applyNetwork: this.#unary(async (request: ApplyNetworkRequest) =>
        create(ApplyNetworkResponseSchema, await this.#part('networks').apply(request)),
      ),
      removeNetwork: this.#unary(async (request: RemoveNetworkRequest) => {
        await this.#part('networks').remove(request);
        return create(RemoveNetworkResponseSchema);
      }),
      listNetworks: this.#unary(async () => create(ListNetworksResponseSchema, await this.#part('networks').list())),
    };
  }

  #programHandlers(): UntypedServiceImplementation {
    return {
      listPrograms: this.#unary(async () => create(ListProgramsResponseSchema, await this.#part('programs').list())),
      listRollbacks: this.#unary(async () =>
        create(ListRollbacksResponseSchema, await this.#part('programs').rollbacks()),
      ),
      rollBackProgram: this.#unary(async (request: RollBackProgramRequest) =>
        create(RollBackProgramResponseSchema, await this.#part('programs').rollBack(request)),
      ),
      releaseQuarantine: this.#unary(async (request: ReleaseQuarantineRequest) =>
        create(ReleaseQuarantineResponseSchema, await this.#part('programs').release(request)),
      ),
    };
  }

  /** Throws `unsupported` for a part that isn't there now. */
  #part<Name extends keyof LocalParts>(name: Name): NonNullable<LocalParts[Name]> {
    const part = this.#parts.current?.[name];
    if (part === undefined) throw new LonglineError('unsupported', `this process has no ${name} to ask`);
    return part;
  }

  #unary<Request, Response>(answer: (request: Request) => Promise<Response>) {
    return (call: ServerUnaryCall<Request, Response>, reply: sendUnaryData<Response>): void => {
      answer(call.request).then(
        (response) => reply(null, response),
        (error: unknown) => {
          const failure = toLonglineError(error);
          if (failure.reason === 'internal') this.#log.error('local call failed', { err: describeError(error) });
          reply({ code: GRPC_CODE[failure.reason], details: failure.message });
        },
      );
    };
  }
}

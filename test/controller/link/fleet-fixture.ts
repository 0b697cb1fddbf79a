// A controller's services on real loopback connections, without TLS: agents name themselves in metadata, callers are
// whoever they say. And an agent that does what a test tells it to.

import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Http2Server, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Client, createClient, createContextValues, type Interceptor } from '@connectrpc/connect';
import { connectNodeAdapter, createConnectTransport, Http2SessionManager } from '@connectrpc/connect-node';
import {
  type ClientDuplexStream,
  credentials,
  Client as GrpcClient,
  Metadata,
  Server,
  ServerCredentials,
} from '@grpc/grpc-js';
import { AgentService } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { JobService } from '#gen/longline/fleet/v1/job_service_pb.js';
import { NetworkService } from '#gen/longline/fleet/v1/network_service_pb.js';
import { ProgramService } from '#gen/longline/fleet/v1/program_service_pb.js';
import { SessionService } from '#gen/longline/fleet/v1/session_service_pb.js';
import {
  AgentLinkService,
  type AgentMessage,
  AgentMessageSchema,
  type Command,
  type ControllerMessage,
  type LogsRequest,
  LogsRequestSchema,
  type LogsResponse,
  Outcome,
  TelemetryRequestSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { JobState } from '#gen/longline/v1/job_pb.js';
import { DEFAULT_KEEP } from '../../../src/controller/config.ts';
import { toConnectError } from '../../../src/controller/front/errors.ts';
import type { ServiceParts } from '../../../src/controller/front/routes.ts';
import type { AgentAuthenticator } from '../../../src/controller/identity/agent-authentication.ts';
import type { ApiTokens } from '../../../src/controller/identity/api-tokens.ts';
import { authorize } from '../../../src/controller/identity/authorization.ts';
import type { ControllerMetrics } from '../../../src/controller/metrics/controller-metrics.ts';
import {
  type OpenedServices,
  openServices,
  type ServicesOptions,
} from '../../../src/controller/services/open-services.ts';
import { DesiredStates } from '../../../src/controller/states/desired-states.ts';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { grpcMethodDefinition } from '../../../src/core/grpc-definition.ts';
import { newId } from '../../../src/core/ids.ts';
import { type Logger, silentLogger } from '../../../src/core/logger.ts';

type AgentMessageInit = NonNullable<MessageInitShape<typeof AgentMessageSchema>['message']>;
type LogsRequestInit = NonNullable<MessageInitShape<typeof LogsRequestSchema>['message']>;

/** What a fleet is started with beside what services may have. */
export interface FleetOptions {
  readonly folder?: string;
  readonly log?: Logger;
  readonly signing?: KeyObject;
  readonly metrics?: ControllerMetrics;
}

const CONTROL = grpcMethodDefinition(AgentLinkService.method.control);
const LOGS = grpcMethodDefinition(AgentLinkService.method.logs);
const TELEMETRY = grpcMethodDefinition(AgentLinkService.method.telemetry);

/** Resolves once `holds` gives something; rejects after a minute with what was awaited. */
export async function until<T>(
  what: string,
  holds: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    const value = await holds();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Services of a controller on loopback ports. */
export class FleetUnderTest implements AsyncDisposable {
  readonly store: Store;
  readonly services: OpenedServices;
  readonly jobs: Client<typeof JobService>;
  readonly agents: Client<typeof AgentService>;
  readonly sessions: Client<typeof SessionService>;
  readonly networks: Client<typeof NetworkService>;
  readonly programs: Client<typeof ProgramService>;
  readonly grpcAddress: string;
  readonly folder: string;
  /** Private key that the controller signs with, as "test-key". */
  readonly signing: KeyObject;
  readonly #grpc: Server;
  readonly #http: Http2Server;
  readonly #connections = new Set<ServerHttp2Session>();
  readonly #manager: Http2SessionManager;
  readonly #clients = new Set<GrpcClient>();

  private constructor(parts: {
    store: Store;
    services: OpenedServices;
    grpc: Server;
    http: Http2Server;
    folder: string;
    grpcPort: number;
    signing: KeyObject;
  }) {
    this.signing = parts.signing;
    this.store = parts.store;
    this.services = parts.services;
    this.#grpc = parts.grpc;
    this.#http = parts.http;
    this.folder = parts.folder;
    this.grpcAddress = `127.0.0.1:${parts.grpcPort}`;
    this.#http.on('session', (session) => this.#connections.add(session));
    const baseUrl = `http://127.0.0.1:${(parts.http.address() as AddressInfo).port}`;
    this.#manager = new Http2SessionManager(baseUrl);
    const transport = createConnectTransport({ baseUrl, httpVersion: '2', sessionManager: this.#manager });
    this.jobs = createClient(JobService, transport);
    this.agents = createClient(AgentService, transport);
    this.sessions = createClient(SessionService, transport);
    this.networks = createClient(NetworkService, transport);
    this.programs = createClient(ProgramService, transport);
  }

  /** Starts on the data in `folder`, or on none. */
  static async start(options: ServicesOptions & FleetOptions = {}): Promise<FleetUnderTest> {
    const signing = options.signing ?? generateKeyPairSync('ed25519').privateKey;
    const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'longline-fleet-')));
    const log = options.log ?? silentLogger;
    const store = openSqliteStore(join(folder, 'store.db'));
    const tokens = { authenticate: async () => ({ name: 'alice', role: 'admin' }) } as unknown as ApiTokens;
    const services = await openServices(
      {
        tokens,
        allowedOrigins: [],
        keep: DEFAULT_KEEP,
        store,
        logDirectory: join(folder, 'logs'),
        controllerId: 'test-controller',
        signingKey: signingKey(signing),
        agents: {
          authenticate: async (call: { metadata: Metadata }) => ({
            agentId: String(call.metadata.get('longline-agent-id')[0]),
            via: 'api_key',
          }),
        } as unknown as AgentAuthenticator,
        maxMessageBytes: 4 * 1024 * 1024,
        heartbeatMs: 15_000,
        disconnectAgent: () => undefined,
        clock: systemClock,
        log,
        ...(options.metrics && { metrics: options.metrics }),
      },
      options,
    );
    const grpc = new Server();
    services.agentRoutes.register(grpc);
    const grpcPort = await new Promise<number>((resolve, reject) => {
      grpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
        error ? reject(error) : resolve(port),
      );
    });
    const convert: Interceptor = (next) => async (request) => {
      try {
        const response = await next(request);
        if (!response.stream) return response;
        return { ...response, message: converted(response.message) };
      } catch (error) {
        throw toConnectError(error);
      }
    };
    const http = createServer(
      connectNodeAdapter({
        routes: services.operatorRoutes,
        interceptors: [convert, authorize(tokens, systemClock)],
        contextValues: () => createContextValues(),
      }),
    );
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    return new FleetUnderTest({ store, services, grpc, http, folder, grpcPort, signing });
  }

  /** The services' way to desired states. */
  get desiredStates(): DesiredStates {
    const { store, services } = this;
    return new DesiredStates({ store, bus: services.bus, clock: systemClock });
  }

  /** Of the key that the controller signs with: 32 bytes. */
  get publicKey(): Uint8Array {
    const { x } = createPublicKey(this.signing).export({ format: 'jwk' });
    return Uint8Array.from(Buffer.from(x!, 'base64url'));
  }

  /** A scripted agent; its connection is closed with the fleet. */
  agent(agentId: string, identity: Partial<AgentNames> = {}): ScriptedAgent {
    const client = new GrpcClient(this.grpcAddress, credentials.createInsecure());
    this.#clients.add(client);
    return new ScriptedAgent(client, agentId, { instanceId: newId(), bootId: newId(), ...identity });
  }

  /** Ends everything, but keeps the data. */
  async stop(): Promise<void> {
    this.#manager.abort();
    for (const client of this.#clients) client.close();
    for (const connection of this.#connections) connection.destroy();
    this.#http.close();
    await this.services[Symbol.asyncDispose]();
    this.#grpc.forceShutdown();
    await this.store[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

function signingKey(privateKey: KeyObject): ServiceParts['signingKey'] {
  const key = { keyId: 'test-key', sign: (bytes: Uint8Array) => sign(null, bytes, privateKey) };
  return key as unknown as ServiceParts['signingKey'];
}

async function* converted<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toConnectError(error);
  }
}

/** What an agent calls itself. */
export interface AgentNames {
  readonly instanceId: string;
  readonly bootId: string;
}

/** What a Hello may say beyond names. */
export type HelloPatch = Omit<Extract<AgentMessageInit, { case: 'hello' }>['value'], '$typeName'>;

/** An agent that does what it is told. */
export class ScriptedAgent {
  readonly agentId: string;
  readonly names: AgentNames;
  readonly #client: GrpcClient;

  constructor(client: GrpcClient, agentId: string, names: AgentNames) {
    this.#client = client;
    this.agentId = agentId;
    this.names = names;
  }

  #metadata(): Metadata {
    const metadata = new Metadata();
    metadata.set('longline-agent-id', this.agentId);
    return metadata;
  }

  /** Opens a control stream without saying anything. */
  dial(): ControlStream {
    const { path, requestSerialize, responseDeserialize } = CONTROL;
    const call = this.#client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, this.#metadata());
    return new ControlStream(call as unknown as ClientDuplexStream<AgentMessage, ControllerMessage>);
  }

  /** Opens a control stream and says Hello; resolves with Welcome received. */
  async connect(hello: HelloPatch = {}): Promise<ControlStream> {
    const stream = this.dial();
    stream.hello(this, hello);
    await stream.next('welcome');
    return stream;
  }

  /** Sends figures, as soon as the stream is open. */
  telemetry(figures: MessageInitShape<typeof TelemetryRequestSchema>): void {
    const { path, requestSerialize, responseDeserialize } = TELEMETRY;
    const call = this.#client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, this.#metadata());
    call.on('error', () => undefined);
    call.on('data', () => undefined);
    call.write(create(TelemetryRequestSchema, figures));
  }

  logs(): LogsStream {
    const { path, requestSerialize, responseDeserialize } = LOGS;
    const call = this.#client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, this.#metadata());
    return new LogsStream(call as unknown as ClientDuplexStream<LogsRequest, LogsResponse>);
  }
}

interface CasedMessage {
  readonly message: { readonly case: string | undefined; readonly value?: unknown };
}

/** Received messages by kind, and how the stream ended. */
class ReceivingStream<Q, S extends CasedMessage> {
  readonly received: S['message'][] = [];
  readonly call: ClientDuplexStream<Q, S>;
  ended = false;
  error: (Error & { code?: number; details?: string; metadata?: Metadata }) | undefined;

  constructor(call: ClientDuplexStream<Q, S>) {
    this.call = call;
    call.on('data', (message: S) => this.received.push(message.message));
    call.on('error', (error: Error) => {
      this.error ??= error;
      this.ended = true;
    });
    call.on('end', () => {
      this.ended = true;
    });
  }

  /** Takes the oldest message of a kind, waiting for it. */
  async next<K extends S['message']['case'] & string>(kind: K): Promise<Extract<S['message'], { case: K }>['value']> {
    const found = await until(`${kind} (have ${this.received.map((m) => m.case).join()})`, () => {
      const message = this.received.find((one) => one.case === kind);
      // What came before the end counts, even if both were read at once.
      if (message === undefined && this.error !== undefined) throw this.error;
      return message;
    });
    this.received.splice(this.received.indexOf(found), 1);
    return found.value as Extract<S['message'], { case: K }>['value'];
  }

  /** Waits for the end and gives the status code; 0 if it ended well. */
  async end(): Promise<number> {
    await until('the end of the stream', () => this.ended);
    return this.error?.code ?? 0;
  }

  close(): void {
    this.call.cancel();
  }
}

/** The agent's side of a control stream. */
export class ControlStream extends ReceivingStream<AgentMessage, ControllerMessage> {
  send(message: AgentMessageInit): void {
    this.call.write(create(AgentMessageSchema, { message }));
  }

  hello(agent: ScriptedAgent, patch: HelloPatch = {}): void {
    const names = { protocolMin: 1, protocolMax: 1, agentId: agent.agentId, ...agent.names };
    this.send({ case: 'hello', value: { ...names, facts: jobsFacts(5), factsDigest: new Uint8Array(16), ...patch } });
  }

  receive(command: Command): void {
    this.send({ case: 'received', value: { commandId: command.id, seq: command.seq } });
  }

  /** Sends a result, and says that the job started and wrote nothing. */
  finish(command: Pick<Command, 'id' | 'seq'>, state: JobState = JobState.SUCCEEDED, stdoutBytes = 0): void {
    const outcome =
      state === JobState.SUCCEEDED
        ? Outcome.SUCCEEDED
        : state === JobState.CANCELLED
          ? Outcome.CANCELLED
          : Outcome.FAILED;
    const value = { state, exitCode: 0, stdoutBytes: BigInt(stdoutBytes) };
    this.send({
      case: 'result',
      value: { commandId: command.id, seq: command.seq, outcome, detail: { case: 'job', value } },
    });
  }
}

/** The agent's side of a log stream. */
export class LogsStream extends ReceivingStream<LogsRequest, LogsResponse> {
  send(message: LogsRequestInit): void {
    this.call.write(create(LogsRequestSchema, { message }));
  }
}

/** Facts of an agent that offers jobs. */
export function jobsFacts(maxJobs: number, labels: Record<string, string> = {}) {
  return { labels, capabilities: [{ name: 'jobs', available: true, limits: { max_concurrent_jobs: maxJobs } }] };
}

/** A request to run something on one agent. */
export function runOn(agentId: string, more: object = {}) {
  return { target: { target: { case: 'agentId' as const, value: agentId } }, spec: { argv: ['true'] }, ...more };
}

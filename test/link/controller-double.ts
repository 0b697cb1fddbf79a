// A small controller for tests of the link: stores what arrives, checks every byte of the log protocol, and lets the test
// decide what it says. It keeps its store across restarts of its server, as a real one does.
import { createHash } from 'node:crypto';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { Server, ServerCredentials, type ServerDuplexStream, type ServerWritableStream, status } from '@grpc/grpc-js';
import {
  AgentLinkService,
  type AgentMessage,
  type Command,
  CommandSchema,
  type ControllerMessage,
  ControllerMessageSchema,
  type FetchArtifactRequest,
  type FetchArtifactResponse,
  type Hello,
  type LogsRequest,
  type LogsResponse,
  LogsResponseSchema,
  type Result,
  type TelemetryRequest,
  type TunnelRequest,
  type TunnelResponse,
  type Welcome,
  WelcomeSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import type { LogClose, LogGap } from '#gen/longline/v1/log_pb.js';
import { crc32c } from '../../src/core/crc32c.ts';
import { grpcServiceDefinition } from '../../src/core/grpc-definition.ts';
import { wireTime } from '../../src/link/wire.ts';
import type { TestIdentity } from './certificates.ts';

type ControlCall = ServerDuplexStream<AgentMessage, ControllerMessage>;
type MessageKind = NonNullable<AgentMessage['message']['case']>;
type MessageOf<K extends MessageKind> = Extract<AgentMessage['message'], { case: K }>['value'];
type LogsCall = ServerDuplexStream<LogsRequest, LogsResponse>;
/** A tunnel of the agent, as grpc-js gives it. */
export type TunnelCall = ServerDuplexStream<TunnelRequest, TunnelResponse>;

/** A fetch of an artifact, as grpc-js gives it. */
export type FetchCall = ServerWritableStream<FetchArtifactRequest, FetchArtifactResponse>;

/** A log as stored. */
export class StoredLog {
  readonly data = new Map<string, Buffer[]>();
  readonly offsets = new Map<string, bigint>();
  readonly gaps: LogGap[] = [];
  close: LogClose | undefined;
  /** Bytes that came although they were stored already, or left a hole: each is a broken promise. */
  readonly faults: string[] = [];

  bytes(stream: string): Buffer {
    return Buffer.concat(this.data.get(stream) ?? []);
  }
}

/** One control stream. */
export interface ControlConnection {
  readonly call: ControlCall;
  readonly hello: Hello;
  readonly helloBytes: number;
}

/** What a test may change about it. */
export interface ControllerBehaviour {
  heartbeatMs: number;
  welcome: Partial<Pick<Welcome, 'protocol' | 'needFacts' | 'knownStates'>>;
  /** Takes the place of Welcome. */
  onHello: ((call: ControlCall, hello: Hello) => void) | undefined;
  acknowledgeResults: boolean;
  acknowledgeLogs: boolean;
  /** Times that a right LogEnd is still called wrong. */
  rejectLogEnds: number;
}

/** The owner disposes it. */
export class TestController implements AsyncDisposable {
  readonly behaviour: ControllerBehaviour = {
    heartbeatMs: 15_000,
    welcome: {},
    onHello: undefined,
    acknowledgeResults: true,
    acknowledgeLogs: true,
    rejectLogEnds: 0,
  };
  readonly connections: ControlConnection[] = [];
  readonly messages: AgentMessage['message'][] = [];
  readonly results = new Map<string, Result>();
  readonly logs = new Map<string, StoredLog>();
  readonly telemetry: TelemetryRequest[] = [];
  readonly inputAcks: { logId: string; offset: bigint; closed: boolean }[] = [];
  logsCall: LogsCall | undefined;
  /** Logs streams so far, and those that the agent has not ended. */
  readonly logStreams = { opened: 0, open: 0 };
  /** Every Tunnel call that came, oldest first. */
  readonly tunnels: TunnelCall[] = [];
  /** Answers fetches of artifacts. */
  onFetch: (call: FetchCall) => void = (call) =>
    call.emit('error', { code: status.NOT_FOUND, details: `no artifact ${call.request.digest}` });
  /** Most control streams that were open at the same time. */
  mostOpen = 0;
  readonly #tls: { identity: TestIdentity; authority: string } | undefined;
  #server: Server | undefined;
  #port = 0;
  #seq = 0n;
  #open = new Set<ControlConnection>();

  private constructor(tls: { identity: TestIdentity; authority: string } | undefined) {
    this.#tls = tls;
  }

  static async start(tls?: { identity: TestIdentity; authority: string }): Promise<TestController> {
    const controller = new TestController(tls);
    await controller.restart();
    return controller;
  }

  get port(): number {
    return this.#port;
  }

  /** The control streams that are open now, oldest first. */
  get open(): ControlConnection[] {
    return [...this.#open];
  }

  /** Drops all connections and listens again, on another port since the old one may be taken meanwhile; the store stays. */
  async restart(): Promise<void> {
    this.stop();
    const server = new Server({ 'grpc-node.flow_control_window': 1024 * 1024 });
    server.addService(grpcServiceDefinition(AgentLinkService), {
      control: (call: ControlCall) => this.#control(call),
      logs: (call: LogsCall) => this.#logs(call),
      telemetry: (call: ServerDuplexStream<TelemetryRequest, never>) => {
        call.on('error', () => call.end());
        call.on('data', (request: TelemetryRequest) => this.telemetry.push(request));
        call.on('end', () => call.end());
      },
      tunnel: (call: TunnelCall) => {
        call.on('error', () => call.end());
        this.tunnels.push(call);
      },
      fetchArtifact: (call: FetchCall) => {
        call.on('error', () => undefined);
        this.onFetch(call);
      },
    });
    this.#server = server;
    this.#port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', this.#credentials(), (error, port) => (error ? reject(error) : resolve(port)));
    });
  }

  /** Drops all connections and stops listening. */
  stop(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
    this.#open.clear();
  }

  /** A command as it would be stored; times relative to now. */
  command(init: MessageInitShape<typeof CommandSchema> = {}): Command {
    this.#seq += 1n;
    return create(CommandSchema, {
      seq: this.#seq,
      id: `command-${this.#seq}`,
      issueTime: wireTime(Date.now()),
      expireTime: wireTime(Date.now() + 60_000),
      ...init,
    });
  }

  /** Sends on the newest control stream. */
  send(message: MessageInitShape<typeof ControllerMessageSchema>['message']): void {
    const connection = this.open.at(-1);
    if (connection === undefined) throw new Error('no control stream is open');
    connection.call.write(create(ControllerMessageSchema, { message: message! }));
  }

  /** Values of the messages of one kind that came so far, in order. */
  received<K extends MessageKind>(kind: K): MessageOf<K>[] {
    return this.messages.flatMap((message) => (message.case === kind ? [message.value as MessageOf<K>] : []));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
  }

  #credentials(): ServerCredentials {
    if (this.#tls === undefined) return ServerCredentials.createInsecure();
    const { identity, authority } = this.#tls;
    const pair = { private_key: Buffer.from(identity.privateKey), cert_chain: Buffer.from(identity.certificate) };
    return ServerCredentials.createSsl(Buffer.from(authority), [pair], true);
  }

  #control(call: ControlCall): void {
    let connection: ControlConnection | undefined;
    const over = () => connection && this.#open.delete(connection);
    call.on('error', over).on('close', over);
    call.on('cancelled', over);
    call.on('end', () => {
      over();
      call.end();
    });
    call.on('data', ({ message }: AgentMessage) => {
      this.messages.push(message);
      if (message.case === 'hello') connection = this.#hello(call, message.value);
      if (message.case === 'heartbeat') {
        const value = { number: message.value.number, answers: message.value.number };
        call.write(create(ControllerMessageSchema, { message: { case: 'heartbeat', value } }));
      }
      if (message.case === 'result') this.results.set(message.value.commandId, message.value);
      if ((message.case === 'result' || message.case === 'rejected') && this.behaviour.acknowledgeResults) {
        const value = { commandIds: [message.value.commandId] };
        call.write(create(ControllerMessageSchema, { message: { case: 'resultAck', value } }));
      }
    });
  }

  #hello(call: ControlCall, hello: Hello): ControlConnection {
    const definition = grpcServiceDefinition(AgentLinkService)['control']!;
    const message = { $typeName: 'longline.link.v1.AgentMessage', message: { case: 'hello', value: hello } };
    const helloBytes = definition.requestSerialize(message as AgentMessage).length;
    const connection = { call, hello, helloBytes };
    this.connections.push(connection);
    this.#open.add(connection);
    this.mostOpen = Math.max(this.mostOpen, this.#open.size);
    if (this.behaviour.onHello !== undefined) {
      this.behaviour.onHello(call, hello);
      return connection;
    }
    const { heartbeatMs, welcome } = this.behaviour;
    const heartbeatInterval = { seconds: BigInt(Math.trunc(heartbeatMs / 1000)), nanos: (heartbeatMs % 1000) * 1e6 };
    const value = create(WelcomeSchema, {
      protocol: 1,
      sessionToken: createHash('sha256').update(String(this.connections.length)).digest(),
      heartbeatInterval,
      serverTime: wireTime(Date.now()),
      controllerId: 'test',
      ...welcome,
    });
    call.write(create(ControllerMessageSchema, { message: { case: 'welcome', value } }));
    return connection;
  }

  #logs(call: LogsCall): void {
    this.logsCall = call;
    this.logStreams.opened += 1;
    this.logStreams.open += 1;
    const handles = new Map<number, StoredLog>();
    call.on('error', () => handles.clear());
    call.on('end', () => {
      this.logStreams.open -= 1;
      call.end();
    });
    const say = (message: MessageInitShape<typeof LogsResponseSchema>['message']) =>
      call.write(create(LogsResponseSchema, { message: message! }));
    call.on('data', ({ message }: LogsRequest) => {
      if (message.case === 'open') {
        const { handle, logId } = message.value;
        const log = this.logs.get(logId) ?? new StoredLog();
        this.logs.set(logId, log);
        handles.set(handle, log);
        say({
          case: 'resume',
          value: { handle, offsets: Object.fromEntries(log.offsets), closed: log.close !== undefined },
        });
      } else if (message.case === 'batch') {
        const { handle, chunks, gaps } = message.value;
        const log = handles.get(handle);
        if (log === undefined) return;
        storeBatch(log, chunks, gaps);
        if (this.behaviour.acknowledgeLogs)
          say({ case: 'ack', value: { handle, offsets: Object.fromEntries(log.offsets) } });
      } else if (message.case === 'end') {
        const { handle, close } = message.value;
        const log = handles.get(handle);
        if (log !== undefined) say({ case: 'endAck', value: { handle, ...this.#end(log, close!) } });
      } else if (message.case === 'inputAck') {
        this.inputAcks.push(message.value);
      }
    });
  }

  #end(log: StoredLog, close: LogClose): { error?: { reason: ErrorReason; message: string } } {
    let wrong: string | undefined;
    for (const { name, length, sha256, gapBytes } of close.streams.map((end) => ({ ...end, name: end.stream }))) {
      const bytes = log.bytes(name);
      const digest = createHash('sha256').update(bytes).digest();
      if ((log.offsets.get(name) ?? 0n) !== length) wrong = `${name} has ${log.offsets.get(name)} bytes, not ${length}`;
      else if (BigInt(bytes.length) + gapBytes !== length) wrong = `${name} has gaps that don't add up`;
      else if (!digest.equals(sha256)) wrong = `${name} has another digest`;
    }
    if (wrong === undefined && this.behaviour.rejectLogEnds > 0) {
      this.behaviour.rejectLogEnds -= 1;
      wrong = 'rejected by the test';
    }
    if (wrong === undefined) {
      log.close = close;
      return {};
    }
    log.data.clear();
    log.offsets.clear();
    log.gaps.length = 0;
    return { error: { reason: ErrorReason.INVALID, message: wrong } };
  }
}

function storeBatch(
  log: StoredLog,
  chunks: readonly { stream: string; offset: bigint; crc32c: number; data: Uint8Array }[],
  gaps: readonly LogGap[],
): void {
  const parts = [
    ...chunks.map((chunk) => ({ ...chunk, from: chunk.offset, to: chunk.offset + BigInt(chunk.data.length) })),
    ...gaps.map((gap) => ({ ...gap, data: undefined, crc32c: 0 })),
  ].sort((left, right) => (left.from < right.from ? -1 : 1));
  for (const { stream, from, to, data, crc32c: crc } of parts) {
    const at = log.offsets.get(stream) ?? 0n;
    if (from !== at) log.faults.push(`${stream} went on at ${from} instead of ${at}`);
    if (data !== undefined && crc32c(data) !== crc) log.faults.push(`${stream} at ${from} has a wrong CRC`);
    log.offsets.set(stream, to);
    if (data !== undefined) log.data.set(stream, [...(log.data.get(stream) ?? []), Buffer.from(data)]);
  }
  log.gaps.push(...gaps);
}

/** Serialised size of a message of the controller. */
export function controllerMessageBytes(message: MessageInitShape<typeof ControllerMessageSchema>['message']): number {
  return toBinary(ControllerMessageSchema, create(ControllerMessageSchema, { message: message! })).length;
}

/** A message of the controller with a kind that no version knows. */
export function unknownControllerMessage(): ControllerMessage {
  return fromBinary(ControllerMessageSchema, Uint8Array.from([0x9a, 0x3e, 0x02, 0x08, 0x01]));
}

// An agent that costs almost nothing: raw HTTP/2 over mTLS, a control stream as a real agent without output keeps it, the real
// messages, real backoff, TLS resumption. It carries nothing out: a command is confirmed and ended at once.
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { Backoff } from '../../../src/core/backoff.ts';

/** What a light agent is made of. */
export interface LightIdentity {
  readonly agentId: string;
  /** PEM. */
  readonly certificate: string;
}

/** Where and as whom agents connect. */
export interface LightTarget {
  readonly port: number;
  readonly privateKey: string;
  readonly authority: string;
}

/** What has happened to all agents of a process. */
export class LightCounts {
  attached = 0;
  commands = 0;
  acknowledged = 0;
  refused = 0;
  resumed = 0;
}

/** What all agents of a process share. */
export class LightState {
  readonly counts = new LightCounts();
  endsCommands = true;
}

const CONTROL = '/longline.link.v1.AgentLinkService/Control';
const BACKOFF = { baseMs: 500, capMs: 30_000 } as const;
const BRING_UP_MS = 10_000;
/** Field numbers of AgentMessage, ControllerMessage and what is in them. */
const SAYS = { hello: 1, received: 2, result: 5, heartbeat: 8 } as const;
const HEARS = { welcome: 1, command: 2, resultAck: 5, drain: 7 } as const;
const SUCCEEDED = 1;

function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(5 + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, 5);
  return framed;
}

function said(field: number, write: (writer: BinaryWriter) => void): Buffer {
  const writer = new BinaryWriter().tag(field, 2).fork();
  write(writer);
  return frame(writer.join().finish());
}

const HEARTBEAT = said(SAYS.heartbeat, (writer) => writer.tag(1, 0).uint64(1n));

/** Splits a stream of gRPC messages. */
export class Deframer {
  #rest: Buffer = Buffer.alloc(0);

  *take(chunk: Buffer): Generator<Buffer> {
    let buffer = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (buffer.length >= 5) {
      const end = 5 + buffer.readUInt32BE(1);
      if (buffer.length < end) break;
      yield buffer.subarray(5, end);
      buffer = buffer.subarray(end);
    }
    this.#rest = buffer.length === 0 ? buffer : Buffer.from(buffer);
  }
}

/** One agent. */
export class LightAgent {
  readonly #identity: LightIdentity;
  readonly #number: number;
  readonly #state: LightState;
  readonly #backoff = new Backoff(BACKOFF);
  #target: LightTarget;
  #context: SecureContext | undefined;
  #ticket: Buffer | undefined;
  #session: ClientHttp2Session | undefined;
  #control: ClientHttp2Stream | undefined;
  #attached = false;
  #stopped = false;
  #whenAttached = Promise.withResolvers<void>();

  constructor(identity: LightIdentity, number: number, target: LightTarget, state: LightState) {
    this.#identity = identity;
    this.#number = number;
    this.#target = target;
    this.#state = state;
  }

  /** Connects, and again whenever the connection ends. Resolves at the first Welcome. */
  start(): Promise<void> {
    this.#stopped = false;
    this.#connect();
    return this.#whenAttached.promise;
  }

  heartbeat(): void {
    if (this.#attached) this.#control?.write(HEARTBEAT);
  }

  stop(): void {
    this.#stopped = true;
    this.#session?.destroy();
  }

  #connect(): void {
    const { port, privateKey, authority } = this.#target;
    this.#context ??= createSecureContext({ key: privateKey, cert: this.#identity.certificate, ca: authority });
    const socket = connectTls({
      host: '127.0.0.1',
      port,
      secureContext: this.#context,
      ALPNProtocols: ['h2'],
      ...(this.#ticket !== undefined && { session: this.#ticket }),
    });
    socket.setNoDelay(true);
    socket.on('session', (ticket: Buffer) => {
      this.#ticket = ticket;
    });
    const session = connect(`https://127.0.0.1:${port}`, { createConnection: () => socket });
    this.#session = session;
    session.on('error', () => undefined);
    session.on('goaway', () => session.destroy());
    const late = setTimeout(() => session.destroy(), BRING_UP_MS);
    session.once('close', () => {
      clearTimeout(late);
      this.#lost(session);
    });
    session.once('connect', () => this.#introduce(session, socket, late));
  }

  #introduce(session: ClientHttp2Session, socket: TLSSocket, late: NodeJS.Timeout): void {
    const control = this.#open(session);
    this.#control = control;
    const deframer = new Deframer();
    control.on('data', (chunk: Buffer) => {
      for (const message of deframer.take(chunk)) this.#hear(message, session, socket, late);
    });
    control.on('close', () => session.destroy());
    const { agentId } = this.#identity;
    const uuid = (kind: number) =>
      `${String(kind).padStart(8, '0')}-0000-4000-8000-${String(this.#number).padStart(12, '0')}`;
    control.write(
      said(SAYS.hello, (writer) =>
        writer
          .tag(1, 0)
          .uint32(1)
          .tag(2, 0)
          .uint32(1)
          .tag(3, 2)
          .string(agentId)
          .tag(4, 2)
          .string(uuid(1))
          .tag(5, 2)
          .string(uuid(2)),
      ),
    );
  }

  #open(session: ClientHttp2Session): ClientHttp2Stream {
    const stream = session.request({
      ':method': 'POST',
      ':path': CONTROL,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.on('error', () => undefined);
    stream.on('response', (headers) => {
      if (headers['grpc-status'] !== undefined && headers['grpc-status'] !== '0') this.#state.counts.refused += 1;
    });
    return stream;
  }

  #hear(message: Buffer, session: ClientHttp2Session, socket: TLSSocket, late: NodeJS.Timeout): void {
    const reader = new BinaryReader(message);
    const [field] = reader.tag();
    if (field === HEARS.welcome) {
      clearTimeout(late);
      this.#backoff.reset();
      this.#attached = true;
      this.#state.counts.attached += 1;
      if (socket.isSessionReused()) this.#state.counts.resumed += 1;
      this.heartbeat();
      this.#whenAttached.resolve();
    } else if (field === HEARS.command) this.#confirm(reader);
    else if (field === HEARS.resultAck) {
      const end = reader.uint32() + reader.pos;
      for (; reader.pos < end; reader.skip(reader.tag()[1])) this.#state.counts.acknowledged += 1;
    } else if (field === HEARS.drain) session.destroy();
  }

  #confirm(reader: BinaryReader): void {
    const end = reader.uint32() + reader.pos;
    let seq: bigint | string = 0n;
    let id = '';
    while (reader.pos < end) {
      const [field, type] = reader.tag();
      if (field === 1) seq = reader.uint64() as bigint;
      else if (field === 2) id = reader.string();
      else reader.skip(type);
    }
    this.#state.counts.commands += 1;
    const about = (writer: BinaryWriter) => writer.tag(1, 2).string(id).tag(2, 0).uint64(seq);
    const receipt = said(SAYS.received, about);
    const result = () => said(SAYS.result, (writer) => about(writer).tag(3, 0).int32(SUCCEEDED));
    this.#control?.write(this.#state.endsCommands ? Buffer.concat([receipt, result()]) : receipt);
  }

  #lost(session: ClientHttp2Session): void {
    if (this.#session !== session) return;
    if (this.#attached) this.#state.counts.attached -= 1;
    this.#attached = false;
    this.#control = undefined;
    if (!this.#stopped) setTimeout(() => this.#stopped || this.#connect(), this.#backoff.next());
  }
}

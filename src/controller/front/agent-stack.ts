// The agents' stack: a grpc-js server fed with sockets that were authenticated elsewhere, and optionally listening in
// plaintext for agents with API keys. Knows which connections belong to which agent, so that a revoked one can be cut.
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionInjector, Server as GrpcServer, ServerCredentials, type ServerOptions } from '@grpc/grpc-js';
import { LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { noTracer, type Tracer } from '../../core/tracer.ts';
import { tracedServer } from '../../telemetry/tracing/grpc-calls.ts';
import type { CertifiedAgent } from '../identity/agent-authentication.ts';
import type { GrpcServiceRegistry } from './grpc-service.ts';
import type { FrontLimits } from './limits.ts';
import { widenReceiveWindows } from './receive-window.ts';

/** What HTTP/2 begins with, and no request of HTTP/1.1 does. */
const HTTP2_PREFACE = Buffer.from('PRI');

/** What it is made from. */
export interface AgentStackOptions {
  readonly limits: FrontLimits;
  readonly log: Logger;
  /** Adds the services. */
  readonly register: (registry: GrpcServiceRegistry) => void;
  /** Takes over plaintext connections that don't speak HTTP/2. */
  readonly onHttp1: (socket: Socket) => void;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
}

/** Serves agents. Dispose ends all their connections at once. */
export class AgentStack implements Disposable {
  readonly #server: GrpcServer;
  readonly #injector: ConnectionInjector;
  /** By agent; each with the replica whose certificate it was made with. */
  readonly #connections = new Map<string, Map<Duplex, string>>();
  readonly #plaintext = new Set<Socket>();
  readonly #listeners: Server[] = [];
  readonly #maxConnections: number;
  readonly #firstBytesMs: number;
  readonly #onHttp1: (socket: Socket) => void;
  readonly #log: Logger;

  constructor({ limits, log, onHttp1, register, tracer = noTracer }: AgentStackOptions) {
    this.#log = log;
    this.#onHttp1 = onHttp1;
    this.#firstBytesMs = limits.headersTimeoutMs;
    this.#maxConnections = limits.maxConnections;
    this.#server = new GrpcServer({ ...serverOptions(limits), interceptors: tracedServer(tracer) });
    register(this.#server);
    // Sockets come with their TLS done, so for grpc-js they are plain connections; it still finds the peer certificate.
    this.#injector = widenReceiveWindows(this.#server, limits.receiveWindowBytes, () =>
      this.#server.createConnectionInjector(ServerCredentials.createInsecure()),
    );
  }

  /** Takes over the socket of an authenticated agent. */
  inject(socket: Duplex, agent: CertifiedAgent): void {
    this.hold(socket, agent);
    this.#injector.injectConnection(socket);
  }

  /** Counts a socket that somebody else serves among an agent's, so that `disconnect` cuts it too. */
  hold(socket: Duplex, { agentId, instanceId }: CertifiedAgent): void {
    const sockets = this.#connections.get(agentId) ?? new Map<Duplex, string>();
    this.#connections.set(agentId, sockets.set(socket, instanceId));
    socket.once('close', () => {
      sockets.delete(socket);
      if (sockets.size === 0 && this.#connections.get(agentId) === sockets) this.#connections.delete(agentId);
    });
  }

  /** Listens without TLS; gives the port. Calls over it have to carry an API key. Throws `unavailable` if it can't be bound. */
  async listenPlaintext({ host, port }: { readonly host: string; readonly port: number }): Promise<number> {
    // Not grpc-js's own listener: it leaves connections open at shutdown (its sessions are only tracked with channelz).
    const listener = createServer({ noDelay: true, keepAlive: true }, (socket) => this.#acceptPlaintext(socket));
    listener.maxConnections = this.#maxConnections;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    listener.once('error', reject);
    listener.listen({ host, port }, resolve);
    await promise.catch((error: Error) => {
      const message = `plaintext-listen: can't bind ${host}:${port}: ${error.message}`;
      throw new LonglineError('unavailable', message, { cause: error });
    });
    listener.removeListener('error', reject);
    listener.on('error', (error) => this.#log.error('accept failed', { err: error.message }));
    this.#listeners.push(listener);
    return (listener.address() as AddressInfo).port;
  }

  /** Accepts no more plaintext connections; those that exist go on. */
  stopAccepting(): void {
    for (const listener of this.#listeners.splice(0)) listener.close();
  }

  /** Cuts the TLS connections of an agent, or of one replica. Calls on the plaintext listener are refused by their own check. */
  disconnect(agentId: string, instanceId?: string): void {
    for (const [socket, replica] of this.#connections.get(agentId) ?? []) {
      if (instanceId === undefined || replica === instanceId) socket.destroy();
    }
  }

  /** Ends all connections. May be called twice. */
  [Symbol.dispose](): void {
    this.stopAccepting();
    this.#injector.destroy();
    this.#server.forceShutdown();
    for (const sockets of this.#connections.values()) for (const socket of sockets.keys()) socket.destroy();
    for (const socket of this.#plaintext) socket.destroy();
  }

  #acceptPlaintext(socket: Socket): void {
    this.#plaintext.add(socket);
    socket.on('error', (error) => this.#log.debug('connection failed', { err: error.message }));
    const timer = setTimeout(() => socket.destroy(), this.#firstBytesMs);
    socket.once('close', () => {
      clearTimeout(timer);
      this.#plaintext.delete(socket);
    });
    let first: Buffer = Buffer.alloc(0);
    const look = (bytes: Buffer): void => {
      first = Buffer.concat([first, bytes]);
      if (first.length < HTTP2_PREFACE.length) return;
      clearTimeout(timer);
      socket.off('data', look);
      socket.pause();
      socket.unshift(first);
      if (first.subarray(0, HTTP2_PREFACE.length).equals(HTTP2_PREFACE)) {
        this.#injector.injectConnection(socket);
        return;
      }
      this.#onHttp1(socket);
      socket.resume();
    };
    socket.on('data', look);
  }
}

function serverOptions(limits: FrontLimits): ServerOptions {
  return {
    'grpc.max_receive_message_length': limits.maxMessageBytes,
    'grpc.max_send_message_length': limits.maxMessageBytes,
    'grpc.max_concurrent_streams': limits.maxAgentStreams,
    'grpc.keepalive_time_ms': limits.agentPingIntervalMs,
    'grpc.keepalive_timeout_ms': limits.agentPingTimeoutMs,
    // Costs memory for every connection and call, and nobody asks it.
    'grpc.enable_channelz': 0,
  };
}

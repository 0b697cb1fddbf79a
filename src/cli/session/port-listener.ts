// A local port that leads into a session: each connection to it gets a tunnel of its own. A connection that can't be carried
// is reset, and the reason told; the others go on.
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { joinDuplex } from '../../core/tunnel/duplex-join.ts';
import type { Fleet } from '../fleet-connection.ts';
import { openTunnel, type TunnelAsk } from './tunnel-client.ts';

/** One connection to the controller takes 100 calls, and others may be made meanwhile. */
const MAX_CONNECTIONS = 90;

/** What a listener works with. */
export interface PortListenerParts {
  readonly fleet: Fleet;
  readonly ask: TunnelAsk;
  /** For people: something about one connection. */
  readonly note: (text: string) => void;
}

/** A listening port. Dispose closes it and resets its connections. */
export class PortListener implements AsyncDisposable {
  readonly #parts: PortListenerParts;
  readonly #server: Server;
  readonly #left = new AbortController();
  readonly #connections = new Set<Promise<void>>();

  private constructor(parts: PortListenerParts) {
    this.#parts = parts;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
      const serving = this.#serve(socket).finally(() => this.#connections.delete(serving));
      this.#connections.add(serving);
    });
  }

  /** Listens. Throws `unavailable` if the address can't be bound. */
  static async open(host: string, port: number, parts: PortListenerParts): Promise<PortListener> {
    const listener = new PortListener(parts);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    listener.#server.once('error', reject);
    listener.#server.listen({ host, port }, resolve);
    await promise.catch((error: Error) => {
      throw new LonglineError('unavailable', `--listen: can't bind ${host}:${port}: ${error.message}`, {
        cause: error,
      });
    });
    listener.#server.removeListener('error', reject);
    listener.#server.on('error', (error) => parts.note(`a connection could not be accepted: ${error.message}`));
    return listener;
  }

  /** "127.0.0.1:40123". */
  get address(): string {
    const { address, port, family } = this.#server.address() as AddressInfo;
    return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#left.abort(new LonglineError('cancelled', 'the listener was closed'));
    this.#server.close();
    await Promise.all(this.#connections);
  }

  async #serve(socket: Socket): Promise<void> {
    const { fleet, ask, note } = this.#parts;
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    socket.on('error', () => undefined);
    try {
      if (this.#connections.size >= MAX_CONNECTIONS) {
        throw new LonglineError('limit', `${MAX_CONNECTIONS} connections are open already`);
      }
      using opened = await openTunnel(fleet, ask, this.#left.signal);
      // Ends the tunnel, and with it the join, when the listener is closed.
      const leave = () => opened[Symbol.dispose]();
      this.#left.signal.addEventListener('abort', leave, { once: true });
      try {
        await joinDuplex(opened.tunnel, socket, { what: `connection from ${peer}` });
      } finally {
        this.#left.signal.removeEventListener('abort', leave);
      }
    } catch (error) {
      socket.resetAndDestroy();
      if (!this.#left.signal.aborted) note(`connection from ${peer}: ${toLonglineError(error).message}`);
    }
  }
}

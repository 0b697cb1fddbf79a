// A tunnel to a TCP port of a session: dials the container's own addresses. Where they can't be reached from here, as what
// listens on the container's loopback only, a command inside the container relays, if the image has one that can.
import { connect, type Socket } from 'node:net';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { SessionVisit } from '../../core/session-access.ts';
import { joinDuplex } from '../../core/tunnel/duplex-join.ts';
import type { TunnelStream } from '../../core/tunnel/tunnel-frame.ts';
import type { TunnelTarget } from '../../link/ports.ts';
import { relayTarget } from './relay-target.ts';

/** For one address: a packet that a firewall drops must not use up all of the time. */
const DIAL_LIMIT_MS = 5000;

/** Connects to a port; the visit is left when the target is disposed. Throws `unavailable` with what was tried. */
export async function portTarget(visit: SessionVisit, port: number, signal: AbortSignal): Promise<TunnelTarget> {
  const tried: string[] = [];
  for (const address of visit.endpoint.addresses) {
    try {
      return new SocketTarget(visit, port, await dial(address, port, signal));
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      tried.push(describeError(error));
    }
  }
  if (tried.length === 0) tried.push('the container has no address that this host could dial');
  try {
    return await relayTarget(visit, port, tried, signal);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    const message = `port ${port} of the session can't be reached: ${[...tried, describeError(error)].join('; ')}`;
    throw new LonglineError('unavailable', message, { cause: error });
  }
}

class SocketTarget implements TunnelTarget {
  readonly #visit: SessionVisit;
  readonly #port: number;
  readonly #socket: Socket;

  constructor(visit: SessionVisit, port: number, socket: Socket) {
    this.#visit = visit;
    this.#port = port;
    this.#socket = socket;
  }

  get woken(): boolean {
    return this.#visit.woken;
  }

  async run(tunnel: TunnelStream): Promise<void> {
    await joinDuplex(tunnel, this.#socket, {
      what: `port ${this.#port} of the session`,
      onIn: (bytes) => this.#visit.touch(bytes, 0),
      onOut: (bytes) => this.#visit.touch(0, bytes),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    this.#visit[Symbol.dispose]();
  }
}

async function dial(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect({ host, port, allowHalfOpen: true, noDelay: true, keepAlive: true });
  const onAbort = () => reject(signal.reason);
  const late = new LonglineError('late', `${host}:${port} did not answer within ${DIAL_LIMIT_MS} ms`);
  const timer = setTimeout(() => reject(late), DIAL_LIMIT_MS);
  signal.addEventListener('abort', onAbort, { once: true });
  socket.once('connect', resolve);
  // Stays: a socket may fail between this and its join, and unheard that would end the process.
  socket.on('error', (error: NodeJS.ErrnoException) => {
    reject(new LonglineError('unavailable', `${host}:${port} refused (${error.code ?? error.message})`));
  });
  try {
    await promise;
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

// A unix socket for applications that want a network and speak no gRPC: JSON objects in, one JSON object out for each, in order. Who may
// open the socket may set up networks, so it is 0600. A message that makes no sense is answered with what is wrong; one that has no
// end, or comes too slowly, is answered and the connection closed.
import { chmod } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import type { NetworkCapability } from '../../capabilities/network/capability.ts';
import type { NetworkView } from '../../capabilities/network/status.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError, invalid, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { freeSocketPath } from '../local/socket-path.ts';
import { type ControlRequest, controlError, readControlMessage } from './control-message.ts';
import { JsonSplitter } from './json-splitter.ts';
import { networkJson } from './status-view.ts';

/** A network of 65,536 peers with a dozen prefixes each. */
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;
const MAX_CONNECTIONS = 32;
const IDLE_MS = 60_000;

/** Serves the socket. Dispose to stop and remove it. */
export class ControlSocket implements AsyncDisposable {
  readonly #path: string;
  readonly #networks: NetworkCapability;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #idleMs: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(path: string, networks: NetworkCapability, clock: Clock, log: Logger, idleMs = IDLE_MS) {
    this.#idleMs = idleMs;
    this.#path = path;
    this.#networks = networks;
    this.#clock = clock;
    this.#log = log;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Binds. A socket left by a dead process is replaced; one that answers is `already_exists`. */
  async open(): Promise<void> {
    await freeSocketPath('control-socket', this.#path);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', (error) => {
      reject(new LonglineError('unavailable', `control-socket: can't listen on ${this.#path}`, { cause: error }));
    });
    const mask = process.umask(0o177);
    this.#server.listen(this.#path, resolve);
    process.umask(mask);
    await promise;
    await chmod(this.#path, 0o600);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (!this.#server.listening) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    await promise;
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    // A caller that is gone needs no answer.
    socket.on('error', () => socket.destroy());
    void this.#serve(socket).catch((error: unknown) => {
      this.#log.debug('a control connection ended', { err: describeError(error) });
      socket.destroy();
    });
  }

  async #serve(socket: Socket): Promise<void> {
    const splitter = new JsonSplitter(MAX_MESSAGE_BYTES);
    socket.setTimeout(this.#idleMs, () => {
      const description = `the message has no end after ${this.#idleMs / 1000} s without a byte`;
      const told = splitter.isEmpty ? '' : line(failure(invalid([{ field: 'message', description }])));
      socket.end(told);
      // Who neither reads nor hangs up would keep a place from others.
      socket.setTimeout(this.#idleMs, () => socket.destroy());
    });
    try {
      // Not destroyed at the end of input: what is half said is answered too.
      for await (const piece of socket.iterator({ destroyOnReturn: false })) {
        for (const text of splitter.take(piece as Buffer)) {
          socket.setTimeout(0);
          const told = await this.#carryOut(text);
          socket.setTimeout(this.#idleMs);
          await answer(socket, told);
        }
      }
      if (!splitter.isEmpty) {
        await answer(socket, failure(invalid([{ field: 'message', description: 'not JSON: it has no end' }])));
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      await answer(socket, failure(invalid([{ field: 'message', description: error.message }])));
    }
    socket.end();
  }

  async #carryOut(text: string): Promise<Record<string, unknown>> {
    try {
      return await this.#perform(readControlMessage(text));
    } catch (error) {
      const known = toLonglineError(error);
      if (known.reason === 'internal') this.#log.error('a control message failed', { err: describeError(error) });
      return failure(known);
    }
  }

  async #perform(request: ControlRequest): Promise<Record<string, unknown>> {
    const nowMs = this.#clock.now();
    if (request.action === 'connect') {
      const { view, warnings } = await this.#networks.applyLocal(request.spec, false);
      const network = view === undefined ? null : networkJson(view, nowMs);
      const [problem] = view?.state === 'failed' ? view.problems.filter(({ harmless }) => !harmless) : [];
      if (problem === undefined) return { ok: true, network, warnings };
      const { field, message } = problem;
      return { ok: false, error: { reason: 'unavailable', field, message: `${message}; it is tried again` }, network };
    }
    const views = await this.#networks.look();
    if (request.action === 'disconnect') {
      await this.#networks.removeLocal(nameOf(views, request.which));
      return { ok: true };
    }
    const asked =
      request.which === undefined ? views : views.filter(({ name }) => name === nameOf(views, request.which!));
    return { ok: true, networks: asked.map((view) => networkJson(view, nowMs)) };
  }
}

/** A network by its name, or by its interface. */
function nameOf(views: readonly NetworkView[], which: string): string {
  const found = views.find(({ name }) => name === which) ?? views.find((view) => view.interface === which);
  if (found !== undefined) return found.name;
  const known = views.map(({ name }) => name).join(', ') || 'none';
  throw new LonglineError(
    'not_found',
    `interface: no network has the name or interface "${which.slice(0, 100)}"; there are: ${known}`,
  );
}

function failure(error: LonglineError): Record<string, unknown> {
  return { ok: false, error: controlError(error) };
}

/** Writes one object and waits until there is room for the next. */
async function answer(socket: Socket, value: Record<string, unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.write(line(value), () => resolve());
  await promise;
}

function line(value: Record<string, unknown>): string {
  return `${JSON.stringify(value)}\n`;
}

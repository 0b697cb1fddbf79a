// One connection to NATS, from credentials that are read anew each time, so that they can be exchanged while the agent runs. It is
// never made again by itself: whoever has it makes the next one.
import { AsyncLocalStorage } from 'node:async_hooks';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFile, stat } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { type ConnectionOptions, connect, credsAuthenticator, type NatsConnection } from '@nats-io/transport-node';
import type { Secret } from '../../core/config/secret.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import { type NatsServers, parseServers } from './servers.ts';

/** Who we are to NATS, beside what the URL says. */
export interface NatsCredentials {
  readonly user?: string | undefined;
  readonly password?: Secret | undefined;
  readonly token?: Secret | undefined;
  /** A .creds file: JWT and seed. Nobody else may be able to read it. */
  readonly credentialsFile?: string | undefined;
  /** PEM; without it the CAs of Node.js. */
  readonly caFile?: string | undefined;
  /** Client certificate and its key, both or none. */
  readonly certificateFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

/** Where to connect to, and as whom. */
export interface NatsTarget {
  readonly servers: NatsServers;
  readonly credentials: NatsCredentials;
  /** Shown on the server. */
  readonly name: string;
}

const PING_MS = 20_000;
const MAX_MISSED_PINGS = 2;

/** Checks what can be checked without a server. Throws `invalid`. */
export function natsTarget(urls: readonly string[], credentials: NatsCredentials, name: string): NatsTarget {
  const servers = parseServers(urls);
  if ((credentials.certificateFile === undefined) !== (credentials.keyFile === undefined)) {
    throw new LonglineError('invalid', 'nats: certificate and key are needed both, or neither');
  }
  return { servers, credentials, name };
}

/** Connects within the limit. Throws `unavailable`, and `policy` for files that others can read. Whoever gets it closes it. */
export async function openConnection(
  target: NatsTarget,
  limitMs: number,
  signal: AbortSignal,
): Promise<NatsConnection> {
  const options = { ...(await identityOf(target)), ...plainOptions(target, limitMs) };
  signal.throwIfAborted();
  const sockets = new SocketWatch();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const connecting = sockets.run(() => connect(options));
  try {
    return await Promise.race([connecting, aborted.promise]);
  } catch (error) {
    // The library leaves the socket of a server that doesn't answer open.
    sockets.destroyAll();
    // It may have come about just now, or what was destroyed ends it.
    connecting.then((late) => late.close()).catch(() => undefined);
    signal.throwIfAborted();
    const where = target.servers.addresses.join(', ');
    throw new LonglineError('unavailable', `can't connect to NATS at ${where}: ${describeError(error)}`, {
      cause: error,
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
    sockets.stop();
  }
}

function plainOptions({ servers, name }: NatsTarget, limitMs: number): ConnectionOptions {
  return {
    servers: [...servers.addresses],
    name,
    timeout: limitMs,
    reconnect: false,
    pingInterval: PING_MS,
    maxPingOut: MAX_MISSED_PINGS,
    ignoreClusterUpdates: true,
    noAsyncTraces: true,
  };
}

async function identityOf({ servers, credentials }: NatsTarget): Promise<ConnectionOptions> {
  const { credentialsFile, caFile, certificateFile: certFile, keyFile } = credentials;
  const token = credentials.token?.reveal() ?? servers.token;
  const user = credentials.user ?? servers.user;
  const pass = credentials.password?.reveal() ?? servers.password;
  const creds = credentialsFile === undefined ? undefined : await readPrivate(credentialsFile, 'credentials');
  if (keyFile !== undefined) await readPrivate(keyFile, 'the key');
  const tls = servers.tls || caFile !== undefined || certFile !== undefined;
  return {
    ...(token === undefined ? {} : { token }),
    ...(user === undefined ? {} : { user, pass: pass ?? '' }),
    ...(creds === undefined ? {} : { authenticator: credsAuthenticator(creds) }),
    ...(tls ? { tls: definedOnly({ caFile, certFile, keyFile }) } : {}),
  };
}

async function readPrivate(path: string, what: string): Promise<Uint8Array> {
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) === 0) return await readFile(path);
  } catch (error) {
    throw new LonglineError('unavailable', `nats: can't read ${what}: ${describeError(error)}`, { cause: error });
  }
  throw new LonglineError('policy', `nats: others can read ${what} in ${path}; run: chmod 600 ${path}`);
}

function definedOnly(files: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(Object.entries(files).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** Sockets that are made on behalf of one call, so that they can be closed if nobody else does. */
class SocketWatch {
  readonly #call = new AsyncLocalStorage<this>();
  readonly #sockets = new Set<Socket>();
  readonly #onSocket = (message: unknown): void => {
    const { socket } = message as { readonly socket: Socket };
    if (this.#call.getStore() !== this) return;
    // A pool of servers is tried one after the other.
    for (const old of this.#sockets) if (old.destroyed) this.#sockets.delete(old);
    this.#sockets.add(socket);
  };

  async run<T>(call: () => Promise<T>): Promise<T> {
    subscribe('net.client.socket', this.#onSocket);
    return await this.#call.run(this, call);
  }

  stop(): void {
    unsubscribe('net.client.socket', this.#onSocket);
    this.#sockets.clear();
  }

  destroyAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

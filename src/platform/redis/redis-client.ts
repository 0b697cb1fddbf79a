// One connection of the Redis client. Nothing is queued or connected anew by itself, and what comes up when nobody waits for it
// any more is closed. It brings the client with it: who elects by something else must not import it.
import { createClient } from '@redis/client';
import { LonglineError } from '../../core/errors.ts';

/** Who asks, and whom to trust. */
export interface RedisAccess {
  readonly username?: string;
  readonly password?: string;
  /** PEM; without it those of the system. For rediss:// only. */
  readonly trustedCertificates?: string;
}

/** A connection, as far as it is used. */
export interface RedisClient {
  readonly isReady: boolean;
  on(event: 'error' | 'connect', listener: (error: Error) => void): unknown;
  connect(): Promise<unknown>;
  destroy(): void;
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  sendCommand(args: readonly string[]): Promise<unknown>;
}

const CONNECT_LIMIT_MS = 5_000;

/** What another CA would mend. */
const UNTRUSTED = new Set([
  ...[
    'CERT_SIGNATURE_FAILURE',
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'SELF_SIGNED_CERT_IN_CHAIN',
    'UNABLE_TO_GET_ISSUER_CERT',
  ],
  ...['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
]);

/** A connection that is up. Rejects if the signal aborts before; then it is closed. The caller ends it. */
export async function connectClient(url: string, access: RedisAccess, signal: AbortSignal): Promise<RedisClient> {
  const { username, password, trustedCertificates: ca } = access;
  signal.throwIfAborted();
  const client = createClient({
    url,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    disableOfflineQueue: true,
    socket: {
      connectTimeout: CONNECT_LIMIT_MS,
      reconnectStrategy: false,
      ...(url.startsWith('rediss:') ? { tls: true as const, ...(ca === undefined ? {} : { ca }) } : {}),
    },
  }) as unknown as RedisClient;
  // What breaks is heard by whoever asks next; without a listener it would end the process.
  client.on('error', () => undefined);
  const end = () => endClient(client);
  // A server that takes connections and says nothing would keep each that was tried. One that isn't up yet can't be closed yet.
  client.on('connect', () => {
    if (signal.aborted) end();
  });
  signal.addEventListener('abort', end, { once: true });
  try {
    await client.connect();
    signal.throwIfAborted();
    return client;
  } catch (error) {
    end();
    throw error;
  } finally {
    signal.removeEventListener('abort', end);
  }
}

/** The answer to a command. The connection is closed if the signal aborts before it comes. */
export async function askClient(
  client: RedisClient,
  command: readonly string[],
  signal: AbortSignal,
): Promise<unknown> {
  const end = () => endClient(client);
  signal.addEventListener('abort', end, { once: true });
  try {
    signal.throwIfAborted();
    return await client.sendCommand(command);
  } finally {
    signal.removeEventListener('abort', end);
  }
}

/** Closes it, whatever it is about. */
export function endClient(client: RedisClient | undefined): void {
  try {
    client?.destroy();
  } catch {
    // It says so if it was closed before.
  }
}

/** What went wrong, for people. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0]);
  if (!(error instanceof Error) || error.message === '') return String(error);
  if (!UNTRUSTED.has((error as NodeJS.ErrnoException).code ?? '')) return error.message;
  return `its certificate isn't trusted (${error.message}); the CA that signed it belongs into ha.redis_ca_file`;
}

/** `work`, which ends with its signal; that aborts after `limitMs`, too. */
export async function within<T>(
  limitMs: number,
  parent: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const onAbort = () => stop.abort(parent.reason);
  const timer = setTimeout(() => stop.abort(new LonglineError('late', `no answer within ${limitMs} ms`)), limitMs);
  parent.addEventListener('abort', onAbort, { once: true });
  try {
    return await work(stop.signal);
  } catch (error) {
    stop.signal.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(timer);
    parent.removeEventListener('abort', onAbort);
  }
}

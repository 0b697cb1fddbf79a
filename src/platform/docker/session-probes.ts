// Looks from this host whether something answers inside a container. A container's address is dialled; what listens on its
// loopback only can't be reached that way, and is looked up in the kernel's table of its network namespace.
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import type { ProbeTarget, SessionProbes } from '../../capabilities/sessions/ports.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';

const LISTEN = '0A';

/** As SessionProbes promises. */
export const sessionProbes: SessionProbes = {
  probeTcp: async (target, port, limitMs, signal) => {
    if (listens(target.pid, port)) return;
    await anyAddress(target, port, (address) => dial(address, port, limitMs, signal));
  },
  probeHttp: async (target, port, path, limitMs, signal) =>
    await anyAddress(target, port, (address) => ask(address, port, path, limitMs, signal)),
};

/** True if a process in the network namespace of `pid` listens on the port, as far as this host's kernel tells. */
export function listens(pid: number | undefined, port: number, procRoot = '/proc'): boolean {
  if (pid === undefined) return false;
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  return ['tcp', 'tcp6'].some((table) => {
    let content: string;
    try {
      content = readFileSync(`${procRoot}/${pid}/net/${table}`, 'utf8');
    } catch {
      // It ended, or may not be seen.
      return false;
    }
    return content.split('\n').some((line) => {
      const [, local = '', , state] = line.trim().split(/\s+/);
      return state === LISTEN && local.endsWith(`:${wanted}`);
    });
  });
}

async function anyAddress<T>(target: ProbeTarget, port: number, probe: (address: string) => Promise<T>): Promise<T> {
  let failure = new LonglineError(
    'unavailable',
    `nothing listens on port ${port}, as far as can be seen: the container has no address that this host can dial`,
  );
  for (const address of target.addresses) {
    try {
      return await probe(address);
    } catch (error) {
      failure = toLonglineError(error);
    }
  }
  throw failure;
}

async function dial(address: string, port: number, limitMs: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect({ host: address, port });
  const timer = setTimeout(() => reject(late(address, port, limitMs)), limitMs);
  const onAbort = () => reject(toLonglineError(signal?.reason));
  signal?.addEventListener('abort', onAbort, { once: true });
  socket.once('connect', resolve);
  socket.on('error', (error: NodeJS.ErrnoException) => reject(failed(address, port, error)));
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    socket.destroy();
  }
}

async function ask(
  address: string,
  port: number,
  path: string,
  limitMs: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const get = request({ host: address, port, path, agent: false, headers: { connection: 'close' } }, (response) => {
    response.destroy();
    resolve(response.statusCode ?? 0);
  });
  const timer = setTimeout(() => reject(late(address, port, limitMs)), limitMs);
  const onAbort = () => reject(toLonglineError(signal?.reason));
  signal?.addEventListener('abort', onAbort, { once: true });
  get.on('error', (error: NodeJS.ErrnoException) => reject(failed(address, port, error)));
  get.end();
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    get.destroy();
  }
}

function late(address: string, port: number, limitMs: number): LonglineError {
  return new LonglineError('late', `${address}:${port} did not answer within ${limitMs} ms`);
}

function failed(address: string, port: number, error: NodeJS.ErrnoException): LonglineError {
  const message = `${address}:${port} did not answer (${error.code ?? error.message})`;
  return new LonglineError('unavailable', message, { cause: error });
}

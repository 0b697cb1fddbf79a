// Joins a tunnel with a byte stream of this process: a socket, or a program's input and output. Each is read only as fast
// as the other takes it, and each direction ends by itself.
import type { Duplex } from 'node:stream';
import { LonglineError } from '../errors.ts';
import type { TunnelStream } from './tunnel-frame.ts';
import { unlessAborted } from './unless-aborted.ts';

/** What a join tells while it runs. */
export interface JoinOptions {
  /** For messages: "port 5901 of the session". */
  readonly what: string;
  /** Bytes came out of the tunnel. */
  readonly onIn?: (bytes: number) => void;
  /** Bytes go into the tunnel. */
  readonly onOut?: (bytes: number) => void;
}

/**
 * Moves bytes both ways until both directions have ended; rejects with the first failure. The duplex is destroyed in any
 * case; it must allow to be half open. The tunnel is left to its owner.
 */
export async function joinDuplex(tunnel: TunnelStream, duplex: Duplex, options: JoinOptions): Promise<void> {
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => undefined);
  const onError = (error: Error) => failed.reject(broken(options.what, error));
  duplex.on('error', onError);
  duplex.once('close', () => {
    if (!duplex.readableEnded || !duplex.writableFinished) failed.reject(broken(options.what, undefined));
  });
  try {
    const out = outward(tunnel, duplex, options);
    const into = inward(tunnel, duplex, options).then(() => unlessAborted(tunnel.gone, out));
    await unlessAborted(tunnel.failed, Promise.race([Promise.all([out, into]), failed.promise]));
  } finally {
    duplex.destroy();
  }
}

async function inward(tunnel: TunnelStream, duplex: Duplex, { onIn }: JoinOptions): Promise<void> {
  for await (const piece of tunnel.pieces()) {
    if (piece.kind !== 'data') continue;
    onIn?.(piece.data.length);
    if (!duplex.write(piece.data)) await drained(duplex);
  }
  await new Promise<void>((resolve) => duplex.end(resolve));
}

async function outward(tunnel: TunnelStream, duplex: Duplex, { what, onOut }: JoinOptions): Promise<void> {
  try {
    for await (const data of duplex.iterator({ destroyOnReturn: false })) {
      onOut?.((data as Buffer).length);
      await tunnel.write(data as Buffer);
    }
  } catch (error) {
    throw error instanceof LonglineError ? error : broken(what, error);
  }
  await tunnel.end();
}

async function drained(duplex: Duplex): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  duplex.once('drain', resolve).once('close', resolve);
  await promise;
  duplex.off('drain', resolve).off('close', resolve);
}

function broken(what: string, error: unknown): LonglineError {
  const why = error instanceof Error ? error.message : 'closed';
  return new LonglineError('unavailable', `${what}: the connection broke: ${why}`, { cause: error });
}

// Artifacts from the controller, over whichever connection there is: a fetch that is cut goes on where it was over the next
// one. It keeps nothing and checks no digest. Every wait is bounded; a fetch that doesn't get on ends as `unavailable`.
import { create } from '@bufbuild/protobuf';
import {
  type FetchArtifactRequest,
  FetchArtifactRequestSchema,
  type FetchArtifactResponse,
} from '#gen/longline/link/v1/link_pb.js';
import { Backoff } from '../core/backoff.ts';
import type { Clock } from '../core/clock.ts';
import { LonglineError, toLonglineError } from '../core/errors.ts';
import type { ArtifactPiece } from '../core/programs/artifact-source.ts';
import type { IncomingCall } from './grpc-client.ts';

/** A connection as fetches need it. */
export interface ArtifactCarrier {
  artifact(request: FetchArtifactRequest): IncomingCall<FetchArtifactResponse>;
}

/** What a fetch is made from. */
export interface ArtifactFetchOptions {
  readonly clock: Clock;
  /** The connection that is open, as soon as there is one; undefined if the signal aborts first. */
  readonly opened: (signal: AbortSignal) => Promise<ArtifactCarrier | undefined>;
  /** Longest wait for a connection. */
  readonly waitMs: number;
  /** Longest wait for the next piece. */
  readonly stallMs: number;
}

/** Tries in a row that bring nothing before a fetch is given up. */
const MAX_IDLE_TRIES = 4;
/** It may take a moment until a connection that is cut is known to be. */
const RETRY = { floorMs: 50, baseMs: 250, capMs: 2000 } as const;

/** Pieces of an artifact from `offset` on, as ArtifactSource.read. `size` is always known. */
export async function* fetchArtifact(
  options: ArtifactFetchOptions,
  digest: string,
  offset: number,
  signal: AbortSignal,
): AsyncGenerator<ArtifactPiece> {
  let at = offset;
  const backoff = new Backoff(RETRY);
  for (;;) {
    const before = at;
    let isWhole = false;
    const carrier = await carrierFor(options, digest, signal);
    try {
      for await (const { size, data } of readOnce(carrier, options.stallMs, digest, at, signal)) {
        // What comes after the end is nobody's.
        if (isWhole) return;
        yield { size, offset: at, data };
        at += data.length;
        // Its end is still read: a call that is cut looks like one that failed.
        isWhole = at >= size;
      }
      if (isWhole) return;
      throw new LonglineError('unavailable', `the controller ended artifact ${digest} after ${at} bytes`);
    } catch (error) {
      if (isWhole) return;
      const failure = toLonglineError(error);
      if (signal.aborted || !mayGoOn(failure)) throw failure;
      if (at > before) backoff.reset();
      if (backoff.attempt + 1 >= MAX_IDLE_TRIES) throw failure;
      await options.clock.sleep(backoff.next(RETRY.floorMs), signal);
    }
  }
}

/** A connection that is taken down ends its calls as cancelled. */
function mayGoOn({ reason, retryable }: LonglineError): boolean {
  return retryable || reason === 'cancelled' || reason === 'late';
}

async function carrierFor(
  { opened, waitMs }: ArtifactFetchOptions,
  digest: string,
  signal: AbortSignal,
): Promise<ArtifactCarrier> {
  const carrier = await within(waitMs, signal, opened);
  if (carrier !== undefined) return carrier;
  signal.throwIfAborted();
  const message = `no connection to the controller for ${waitMs} ms; artifact ${digest} can't be fetched`;
  throw new LonglineError('unavailable', message);
}

async function* readOnce(
  carrier: ArtifactCarrier,
  stallMs: number,
  digest: string,
  offset: number,
  signal: AbortSignal,
): AsyncGenerator<{ readonly size: number; readonly data: Uint8Array }> {
  const call = carrier.artifact(create(FetchArtifactRequestSchema, { digest, offset: BigInt(offset) }));
  let stalled = false;
  const stall = setTimeout(() => {
    stalled = true;
    call.cancel();
  }, stallMs);
  const onAbort = () => call.cancel();
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    for await (const { size, data } of call.messages) {
      stall.refresh();
      yield { size: Number(size), data };
      stall.refresh();
    }
  } catch (error) {
    signal.throwIfAborted();
    if (!stalled) throw error;
    throw new LonglineError('late', `the controller sent nothing of artifact ${digest} for ${stallMs} ms`);
  } finally {
    clearTimeout(stall);
    signal.removeEventListener('abort', onAbort);
    call.cancel();
  }
}

/** What `wait` gives; its signal aborts after `limitMs` or with the parent. */
async function within<T>(limitMs: number, parent: AbortSignal, wait: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const limit = new AbortController();
  const stop = () => limit.abort();
  const timer = setTimeout(stop, limitMs);
  parent.addEventListener('abort', stop, { once: true });
  if (parent.aborted) stop();
  try {
    return await wait(limit.signal);
  } finally {
    clearTimeout(timer);
    parent.removeEventListener('abort', stop);
  }
}

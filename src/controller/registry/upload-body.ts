// Reads the body of an upload, in order and within bounds. Who stops sending is given up.
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { HttpRequest } from '../front/http-handlers.ts';

/** Longest silence of somebody who uploads. */
const STALL_MS = 60_000;
const LOOK_MS = 5_000;

/** Gives each piece to `take`, whose failure ends it. Leaves the request open for its answer. Throws `late`, `cancelled`. */
export async function readBody(request: HttpRequest, take: (piece: Uint8Array) => void, clock: Clock): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const over = new AbortController();
  let heardMs = clock.monotonic();
  const data = (piece: Uint8Array): void => {
    heardMs = clock.monotonic();
    try {
      take(piece);
    } catch (error) {
      reject(error);
    }
  };
  const end = (): void => resolve();
  const lost = (): void => reject(new LonglineError('cancelled', 'the upload ended early; nothing was stored'));
  request.on('data', data);
  request.on('end', end);
  for (const event of ['error', 'aborted', 'close']) request.on(event, lost);
  if (request.destroyed) lost();
  void watch(clock, () => clock.monotonic() - heardMs, over.signal, reject);
  try {
    await promise;
  } finally {
    over.abort();
    request.off('data', data);
    request.off('end', end);
    for (const event of ['aborted', 'close']) request.off(event, lost);
  }
}

async function watch(
  clock: Clock,
  silentMs: () => number,
  signal: AbortSignal,
  reject: (error: LonglineError) => void,
): Promise<void> {
  while (!signal.aborted) {
    await clock.sleep(LOOK_MS, signal).catch(() => undefined);
    if (signal.aborted || silentMs() < STALL_MS) continue;
    reject(new LonglineError('late', `no bytes came for ${STALL_MS / 1000} s; upload the artifact again`));
    return;
  }
}

// One artifact over HTTP: from an offset, and on from where it was when the connection breaks. A server that knows no ranges begins at 0.
import { setTimeout as delay } from 'node:timers/promises';
import { Backoff } from '../../core/backoff.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import type { ArtifactPiece } from '../../core/programs/artifact-source.ts';
import { type HttpAnswer, place } from './http-client.ts';
import { refusalOf } from './refusal.ts';

/** How bytes are asked for. */
export interface DownloadOptions {
  readonly get: (headers: Readonly<Record<string, string>>, signal: AbortSignal) => Promise<HttpAnswer>;
  /** For all of it. */
  readonly limitMs: number;
}

/** Tries in a row that bring nothing before a download is given up. */
const MAX_IDLE_TRIES = 3;
const RETRY = { floorMs: 50, baseMs: 250, capMs: 2000 } as const;

/** Pieces as ArtifactSource.read gives them. */
export async function* download(
  { get, limitMs }: DownloadOptions,
  digest: string,
  offset: number,
  signal: AbortSignal,
): AsyncGenerator<ArtifactPiece> {
  const limit = new AbortController();
  const late = new LonglineError('late', `artifact ${digest} did not come within ${limitMs} ms`);
  const timer = setTimeout(() => limit.abort(late), limitMs);
  const onAbort = () => limit.abort(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    yield* pieces(get, offset, limit.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

async function* pieces(
  get: DownloadOptions['get'],
  offset: number,
  signal: AbortSignal,
): AsyncGenerator<ArtifactPiece> {
  const backoff = new Backoff(RETRY);
  let at = offset;
  let etag: string | undefined;
  for (;;) {
    const before = at;
    try {
      const answer = await get(rangeHeaders(at, etag), signal);
      if (answer.status === 416 && at > 0) {
        answer.drop();
        at = 0;
        etag = undefined;
        continue;
      }
      const { start, size } = extentOf(answer, at);
      const given = answer.header('etag');
      etag = given?.startsWith('"') && given.length <= 256 ? given : undefined;
      at = start;
      for await (const data of answer.body()) {
        yield { size, offset: at, data };
        at += data.length;
      }
      if (size === undefined || at >= size) return;
      throw new LonglineError('unavailable', `${place(answer.url)} ended after ${at} of ${size} bytes`);
    } catch (error) {
      signal.throwIfAborted();
      const failure = toLonglineError(error);
      if (failure.reason !== 'unavailable' && failure.reason !== 'late') throw failure;
      if (at > before) backoff.reset();
      if (backoff.attempt + 1 >= MAX_IDLE_TRIES) throw failure;
      await delay(backoff.next(RETRY.floorMs), undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

/** Bytes of an artifact never change under its digest, so that a range is right even without a tag to hold it to. */
function rangeHeaders(at: number, etag: string | undefined): Record<string, string> {
  if (at === 0) return {};
  return { range: `bytes=${at}-`, ...(etag === undefined ? {} : { 'if-range': etag }) };
}

/** Where the body begins in the artifact, and the size of the whole if it is told. Throws for any other answer. */
function extentOf(answer: HttpAnswer, asked: number): { readonly start: number; readonly size: number | undefined } {
  const { status, url } = answer;
  if (status !== 200 && status !== 206) throw refusalOf(answer, 'gives no artifact');
  const encoding = answer.header('content-encoding') ?? 'identity';
  if (encoding !== 'identity') {
    answer.drop();
    throw new LonglineError(
      'unavailable',
      `${place(url)} sends ${encoding.slice(0, 50)} where plain bytes were asked for`,
    );
  }
  if (status === 200) {
    const length = answer.header('content-length');
    return { start: 0, size: length !== undefined && /^\d{1,15}$/.test(length) ? Number(length) : undefined };
  }
  const range = answer.header('content-range') ?? '';
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(range);
  if (match === null || Number(match[1]) !== asked) {
    answer.drop();
    const shown = JSON.stringify(range.slice(0, 100));
    throw new LonglineError(
      'unavailable',
      `${place(url)} sends the range ${shown} where bytes from ${asked} on were asked for`,
    );
  }
  return { start: asked, size: match[3] === '*' ? undefined : Number(match[3]) };
}

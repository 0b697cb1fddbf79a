// Page tokens: the key of the last record seen, wrapped so that callers don't come to depend on it.
import { invalid } from '../../../core/errors.ts';
import type { Page } from '../page.ts';

const PREFIX = 'p1.';

/** Wraps a key. */
export function encodePageToken(key: string): string {
  return Buffer.from(PREFIX + key, 'utf8').toString('base64url');
}

/** Unwraps a token; undefined for the first page. Anything else that isn't ours is refused. */
export function decodePageToken(token: string): string | undefined {
  if (token === '') return undefined;
  const decoded = Buffer.from(token, 'base64url').toString('utf8');
  if (!decoded.startsWith(PREFIX)) {
    throw invalid([
      { field: 'page_token', description: 'is not a token from an earlier answer; leave it empty to begin' },
    ]);
  }
  return decoded.slice(PREFIX.length);
}

/** Makes a page of rows that were read with one more than asked for. */
export function pageOf<R, T>(
  rows: readonly R[],
  size: number,
  convert: (row: R) => T,
  key: (row: R) => string,
): Page<T> {
  const more = rows.length > size;
  const kept = more ? rows.slice(0, size) : rows;
  return { items: kept.map(convert), nextPageToken: more ? encodePageToken(key(kept.at(-1)!)) : '' };
}

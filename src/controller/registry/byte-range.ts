// Which bytes a request asks for, by RFC 9110, section 14. Pure.

/** What a Range header comes to. */
export type ByteRange =
  /** All: there is no header, or one that need not be understood (another unit, several ranges, no sense). */
  | { readonly kind: 'whole' }
  /** From `start` up to and without `end`. */
  | { readonly kind: 'part'; readonly start: number; readonly end: number }
  /** Nothing that is there. */
  | { readonly kind: 'beyond' };

const RANGE = /^bytes=(\d{0,15})-(\d{0,15})$/;
const WHOLE: ByteRange = { kind: 'whole' };

/** Reads a Range header for something of `size` bytes. */
export function byteRange(header: string | undefined, size: number): ByteRange {
  const [, first = '', last = ''] = RANGE.exec(header?.replaceAll(/\s/g, '') ?? '') ?? [];
  if (first === '' && last === '') return WHOLE;
  if (first === '') {
    const length = Math.min(Number(last), size);
    return length === 0 ? { kind: 'beyond' } : { kind: 'part', start: size - length, end: size };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return WHOLE;
  if (start >= size) return { kind: 'beyond' };
  return { kind: 'part', start, end: last === '' ? size : Math.min(Number(last) + 1, size) };
}

/** True if one of the tags of an If-None-Match header is this strong one. */
export function matchesTag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header.split(',').some((tag) => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag);
}

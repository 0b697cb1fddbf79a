// Bytes of a stored artifact, piece by piece, so that nobody holds all of it. One that is deleted meanwhile ends as `not_found`.
import { LonglineError } from '../../core/errors.ts';
import type { ArtifactRepository } from '../store/artifact.ts';

/** From `offset` up to and without `end`; each piece has at most 64 KiB. */
export async function* artifactBytes(
  artifacts: Pick<ArtifactRepository, 'read'>,
  digest: string,
  offset: number,
  end: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = offset; at < end; ) {
    const piece = await artifacts.read(digest, at);
    if (piece === undefined || piece.length === 0) throw notStored(digest);
    yield piece.subarray(0, end - at);
    at += piece.length;
  }
}

/** There is no such artifact. */
export function notStored(digest: string): LonglineError {
  return new LonglineError('not_found', `no artifact ${digest} is stored here`);
}

/** Where to begin, within an artifact of `size` bytes. Throws `invalid` for an offset beyond its end. */
export function checkedOffset(offset: bigint, size: number): number {
  if (offset <= BigInt(size)) return Number(offset);
  const description = `is ${offset}; the artifact has ${size} bytes`;
  throw new LonglineError('invalid', `offset: ${description}`, { violations: [{ field: 'offset', description }] });
}

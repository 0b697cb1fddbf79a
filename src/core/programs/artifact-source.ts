// Where artifacts come from, as whoever keeps them sees it: the controller's link, a registry.
import { LonglineError } from '../errors.ts';
import { ARTIFACT_DIGEST, ARTIFACT_DIGEST_FORM } from './program-spec.ts';

/** Largest artifact.tar.zst that is taken anywhere, in bytes. */
export const MAX_ARTIFACT_BYTES = 16 * 1024 * 1024;

/** Bytes of an artifact and where they stand in it. */
export interface ArtifactPiece {
  /** Of the whole, in bytes; undefined if the source doesn't say. */
  readonly size: number | undefined;
  readonly offset: number;
  readonly data: Uint8Array;
}

/** Where artifacts of one origin come from. */
export interface ArtifactSource {
  /**
   * Pieces in order and without holes, from `offset` on; ends after the last one. A piece at 0 where another was due begins anew,
   * as with a source that can't begin anywhere else.
   * Waits are bounded. Throws `not_found`, `unavailable` or `late`; what came before then is good as far as the source knows.
   */
  read(digest: string, offset: number, signal: AbortSignal): AsyncIterable<ArtifactPiece>;
}

/** The hex digits of "sha256:…". Throws `invalid` for anything else. */
export function digestHex(digest: string): string {
  if (ARTIFACT_DIGEST.test(digest)) return digest.slice('sha256:'.length);
  const shown = JSON.stringify(digest.slice(0, 100));
  throw new LonglineError('invalid', `artifact: ${shown} is no digest; it must be ${ARTIFACT_DIGEST_FORM}`);
}

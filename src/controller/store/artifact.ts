// Artifacts of programs: what each says of itself, and its bytes, by digest. An artifact is stored whole or not at all, and never
// changes. Its bytes are read in pieces, so that nobody has to hold all of them.
import type { Page, PageQuery } from './page.ts';

/** Bytes that one read gives at most. */
export const ARTIFACT_PIECE_BYTES = 64 * 1024;

/** An artifact as stored. */
export interface ArtifactRecord {
  /** "sha256:" and 64 hex digits of its bytes. */
  readonly digest: string;
  /** In bytes. */
  readonly size: number;
  /** Name in its metadata. */
  readonly name: string;
  /** Serialised longline.v1.ProgramMetadata. */
  readonly metadata: Uint8Array;
  /** Ids of keys, as it says. */
  readonly signers: readonly string[];
  /** Milliseconds since the epoch. */
  readonly createdAtMs: number;
}

/** What became of an artifact that was to be stored. */
export type PutArtifactOutcome =
  | { readonly kind: 'stored'; readonly artifact: ArtifactRecord }
  /** It was there already, as this. */
  | { readonly kind: 'known'; readonly artifact: ArtifactRecord }
  /** All artifacts together would take more than was allowed. Nothing was stored. */
  | { readonly kind: 'full'; readonly bytes: number };

/** What became of an artifact that was to go. */
export type DeleteArtifactOutcome =
  | { readonly kind: 'deleted' }
  | { readonly kind: 'missing' }
  /** Somebody wants it: for people, "program drop of agent a". Nothing was deleted. */
  | { readonly kind: 'wanted'; readonly by: string };

/** Artifacts. */
export interface ArtifactRepository {
  /** Stores `bytes` under the record's digest, which they have. `mostBytes` bounds all artifacts together. */
  put(artifact: ArtifactRecord, bytes: Uint8Array, mostBytes: number): Promise<PutArtifactOutcome>;
  get(digest: string): Promise<ArtifactRecord | undefined>;
  /** Those whose digests begin with this, in order; at most `limit`. */
  startingWith(prefix: string, limit: number): Promise<readonly ArtifactRecord[]>;
  /** Newest first. An empty name gives all. */
  list(query: { readonly name: string } & PageQuery): Promise<Page<ArtifactRecord>>;
  /** Bytes from an offset, at most ARTIFACT_PIECE_BYTES; none at the end. Undefined if the artifact isn't there (any more). */
  read(digest: string, offset: number): Promise<Uint8Array | undefined>;
  /** Forgets an artifact that no program and no assignment wants. */
  delete(digest: string): Promise<DeleteArtifactOutcome>;
}

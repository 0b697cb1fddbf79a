// Whether an artifact may be trusted: at least one good signature by a key of this host, over the exact bytes of its metadata, which
// hold the digest of the object. Pure. Refusals are `policy` for what this host doesn't allow and `identity` for signatures that
// don't hold; they name each key and say why.
import { preAuthEncoding } from '../dsse.ts';
import { LonglineError } from '../errors.ts';
import { ARTIFACT_PAYLOAD_TYPE, type ArtifactKey, verifySignature } from './artifact-key.ts';
import type { ArtifactSignature } from './signatures.ts';

/** What is judged, and by what. */
export interface VerificationRequest {
  readonly metadataBytes: Uint8Array;
  readonly signatures: readonly ArtifactSignature[];
  /** What the metadata says of when the signatures end; undefined for never. */
  readonly expiresAtMs: number | undefined;
  readonly keys: readonly ArtifactKey[];
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
  /** True if the host takes artifacts that nobody signed. One with signatures of which none is good is refused all the same. */
  readonly allowUnsigned: boolean;
}

/** Who stands for an artifact. */
export interface Verification {
  /** Ids of the keys with good signatures, in order; empty for an unsigned one. */
  readonly signers: readonly string[];
  /** Until when this holds: the first end of artifact or keys; undefined for ever. */
  readonly holdsUntilMs: number | undefined;
}

/** Throws `policy` or `identity` if the artifact is not to be loaded. */
export function verifyArtifact(request: VerificationRequest): Verification {
  const { signatures, expiresAtMs, nowMs, allowUnsigned } = request;
  const trusted = signatures.length === 0 ? [] : trustedKeys(request);
  if (signatures.length === 0 && !allowUnsigned) {
    throw new LonglineError('policy', 'the artifact is not signed, and this host takes none that is not', {
      rule: 'artifact.unsigned',
    });
  }
  if (expiresAtMs !== undefined && expiresAtMs <= nowMs) {
    throw new LonglineError('policy', `the artifact expired at ${iso(expiresAtMs)}; it has to be signed anew`, {
      rule: 'artifact.expired',
    });
  }
  const ends = [expiresAtMs, ...trusted.map((key) => key.expiresAtMs)].filter((end) => end !== undefined);
  return {
    signers: [...new Set(trusted.map(({ keyId }) => keyId))].sort(),
    holdsUntilMs: ends.length === 0 ? undefined : Math.min(...ends),
  };
}

/** Keys whose signatures hold, at least one. */
function trustedKeys({ metadataBytes, signatures, keys, nowMs }: VerificationRequest): readonly ArtifactKey[] {
  const encoded = preAuthEncoding(ARTIFACT_PAYLOAD_TYPE, metadataBytes);
  const faults: string[] = [];
  const trusted = signatures.flatMap((signature) => {
    const found = judge(signature, encoded, keys, nowMs);
    if (typeof found !== 'string') return [found];
    faults.push(found);
    return [];
  });
  if (trusted.length > 0) return trusted;
  throw new LonglineError('identity', `no signature of the artifact is good here: ${faults.join('; ')}`, {
    rule: 'artifact.signatures',
  });
}

/** The key that made a signature; else why it doesn't hold. */
function judge(
  { keyId, algorithm, signature }: ArtifactSignature,
  encoded: Uint8Array,
  keys: readonly ArtifactKey[],
  nowMs: number,
): ArtifactKey | string {
  const named = keys.filter((key) => key.keyId === keyId);
  if (named.length === 0) return `key "${keyId}" is not known here`;
  const able = named.filter((key) => key.algorithm === algorithm);
  if (able.length === 0) return `key "${keyId}" is of ${named[0]!.algorithm}, and the signature claims ${algorithm}`;
  const maker = able.find((key) => verifySignature(key, encoded, signature));
  if (maker === undefined)
    return `the signature by key "${keyId}" is wrong: the metadata was changed, or another key made it`;
  if (maker.expiresAtMs === undefined || maker.expiresAtMs > nowMs) return maker;
  return `key "${keyId}" expired at ${iso(maker.expiresAtMs)}`;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

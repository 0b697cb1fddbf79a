// Decides whether the bytes of an artifact may be loaded on this host: opens them, reads what they say of themselves, and has the
// signatures checked.
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { checkObject, openArtifact } from '../../core/programs/artifact.ts';
import { kernelFault } from '../../core/programs/kernel-release.ts';
import type { ArtifactMetadata } from '../../core/programs/metadata.ts';
import { readMetadata } from '../../core/programs/metadata-message.ts';
import type { KernelSupport } from './ports.ts';
import type { VerificationCache } from './verification-cache.ts';
import { decodeMetadata } from './wire.ts';

/** An artifact that may be loaded on this host. */
export interface VerifiedArtifact {
  readonly metadata: ArtifactMetadata;
  /** ELF object. */
  readonly object: Uint8Array;
  /** Ids of keys; empty for one that nobody signed. */
  readonly signers: readonly string[];
}

/** What it is made from. */
export interface VerifierParts {
  readonly verifications: VerificationCache;
  readonly allowUnsigned: boolean;
  readonly clock: Clock;
  readonly support: () => KernelSupport;
}

/** One per capability. */
export class ArtifactVerifier {
  readonly #parts: VerifierParts;

  constructor(parts: VerifierParts) {
    this.#parts = parts;
  }

  /**
   * Throws `policy` or `identity` for signatures that don't count here, `unavailable` if there are no keys to go by, `unsupported` for a
   * kernel that is too old, `invalid` or `limit` for what is no artifact.
   */
  async verify(bytes: Uint8Array, signal: AbortSignal): Promise<VerifiedArtifact> {
    const { verifications, allowUnsigned, clock, support } = this.#parts;
    const artifact = await openArtifact(bytes);
    signal.throwIfAborted();
    const metadata = readMetadata(decodeMetadata(artifact.metadataBytes));
    checkObject(metadata, artifact.object);
    const { expiresAtMs } = metadata;
    const signers = await verifications.verify({ artifact, expiresAtMs, nowMs: clock.now(), allowUnsigned }, signal);
    const tooOld = kernelFault(metadata.minimumKernel, support().release);
    if (tooOld !== undefined) throw new LonglineError('unsupported', `minimum_kernel: ${tooOld}`);
    return { metadata, object: artifact.object, signers };
  }
}

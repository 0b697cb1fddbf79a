// Decides whether the bytes of an artifact may be loaded on this host: opens them, reads what they say of themselves, and has the
// signatures checked. A verdict is remembered by artifact, keys and what the host allows, for as long as it holds.
import { hash } from 'node:crypto';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { checkObject, openArtifact } from '../../core/programs/artifact.ts';
import { kernelFault } from '../../core/programs/kernel-release.ts';
import type { ArtifactMetadata } from '../../core/programs/metadata.ts';
import { readMetadata } from '../../core/programs/metadata-message.ts';
import { type Verification, verifyArtifact } from '../../core/programs/verification.ts';
import type { ArtifactKeys, KernelSupport } from './ports.ts';
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
  readonly keys: ArtifactKeys;
  readonly allowUnsigned: boolean;
  readonly clock: Clock;
  readonly support: () => KernelSupport;
}

const MOST_REMEMBERED = 64;

/** One per capability. */
export class ArtifactVerifier {
  readonly #parts: VerifierParts;
  readonly #verdicts = new Map<string, Verification>();

  constructor(parts: VerifierParts) {
    this.#parts = parts;
  }

  /**
   * Throws `policy` or `identity` for signatures that don't count here, `unavailable` if there are no keys to go by, `unsupported` for a
   * kernel that is too old, `invalid` or `limit` for what is no artifact.
   */
  async verify(bytes: Uint8Array, signal: AbortSignal): Promise<VerifiedArtifact> {
    const opened = await openArtifact(bytes);
    signal.throwIfAborted();
    const metadata = readMetadata(decodeMetadata(opened.metadataBytes));
    checkObject(metadata, opened.object);
    const { signers } = await this.#verdict(opened, metadata, signal);
    const tooOld = kernelFault(metadata.minimumKernel, this.#parts.support().release);
    if (tooOld !== undefined) throw new LonglineError('unsupported', `minimum_kernel: ${tooOld}`);
    return { metadata, object: opened.object, signers };
  }

  async #verdict(
    { metadataBytes, signatures }: Awaited<ReturnType<typeof openArtifact>>,
    { expiresAtMs }: ArtifactMetadata,
    signal: AbortSignal,
  ): Promise<Verification> {
    const { keys, allowUnsigned, clock } = this.#parts;
    const nowMs = clock.now();
    const signed =
      hash('sha256', metadataBytes) + JSON.stringify(signatures.map(({ signature }) => hash('sha256', signature)));
    const key = `${keys.version}\n${allowUnsigned}\n${signed}`;
    const known = this.#verdicts.get(key);
    if (known !== undefined && (known.holdsUntilMs ?? Number.POSITIVE_INFINITY) > nowMs) return known;
    // Without signatures there is nothing that a key could say.
    const all = signatures.length === 0 ? [] : await keys.keys(signal);
    const verdict = verifyArtifact({ metadataBytes, signatures, expiresAtMs, keys: all, nowMs, allowUnsigned });
    this.#verdicts.set(`${keys.version}\n${allowUnsigned}\n${signed}`, verdict);
    const oldest = this.#verdicts.keys().next().value;
    if (this.#verdicts.size > MOST_REMEMBERED && oldest !== undefined) this.#verdicts.delete(oldest);
    return verdict;
  }
}

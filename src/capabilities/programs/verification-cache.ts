// Remembers which artifacts were found good, by digest, for as long as keys and policy are the same and nothing has expired. In
// memory only: checking takes under a millisecond, so that nothing is gained by keeping it over a restart, while a file that says
// "this one is trusted" would be worth forging. What was refused is judged anew each time: keys may have come.

import type { OpenArtifact } from '../../core/programs/artifact.ts';
import { type Verification, verifyArtifact } from '../../core/programs/verification.ts';
import type { ArtifactKeys } from './ports.ts';

/** Far more than a host has programs. */
const MAX_ENTRIES = 256;

interface Entry {
  readonly keysVersion: string;
  readonly allowUnsigned: boolean;
  readonly verification: Verification;
}

/** What is asked. */
export interface VerificationQuestion {
  readonly artifact: Pick<OpenArtifact, 'digest' | 'metadataBytes' | 'signatures'>;
  /** Of its metadata. */
  readonly expiresAtMs: number | undefined;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
  readonly allowUnsigned: boolean;
}

/** Verifies artifacts with the keys of this host. */
export class VerificationCache {
  readonly #keys: ArtifactKeys;
  /** The one used last stands last. */
  readonly #entries = new Map<string, Entry>();

  constructor(keys: ArtifactKeys) {
    this.#keys = keys;
  }

  /**
   * Ids of the keys that stand for it; empty for an unsigned one that may be loaded. Throws `policy` or `identity` if it may not,
   * `unavailable` if there are no keys to judge by.
   */
  async verify(question: VerificationQuestion, signal: AbortSignal): Promise<readonly string[]> {
    const { artifact, allowUnsigned, expiresAtMs, nowMs } = question;
    const known = this.#entries.get(artifact.digest);
    this.#entries.delete(artifact.digest);
    if (known !== undefined && this.#stillHolds(known, question)) {
      this.#entries.set(artifact.digest, known);
      return known.verification.signers;
    }
    const { metadataBytes, signatures } = artifact;
    // Without signatures no key decides anything, and none need be there.
    const keys = signatures.length === 0 ? [] : await this.#keys.keys(signal);
    const keysVersion = this.#keys.version;
    const verification = verifyArtifact({ metadataBytes, signatures, expiresAtMs, keys, nowMs, allowUnsigned });
    this.#entries.set(artifact.digest, { keysVersion, allowUnsigned, verification });
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= MAX_ENTRIES) break;
      this.#entries.delete(oldest);
    }
    return verification.signers;
  }

  #stillHolds({ keysVersion, allowUnsigned, verification }: Entry, question: VerificationQuestion): boolean {
    const { holdsUntilMs } = verification;
    return (
      keysVersion === this.#keys.version &&
      allowUnsigned === question.allowUnsigned &&
      (holdsUntilMs === undefined || question.nowMs < holdsUntilMs)
    );
  }
}

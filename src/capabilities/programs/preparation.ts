// From a digest to something that the kernel can be given: fetches an artifact, has it verified, and joins it with what is asked for.
// Each step says what it was that failed. Knows no kernel but by what it can do.
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import type { ProgramSpec } from '../../core/programs/program-spec.ts';
import { type ResolvedSpec, resolveSpec } from '../../core/programs/resolved-spec.ts';
import type { ArtifactVerifier, VerifiedArtifact } from './artifact-verifier.ts';
import { faultOf, ProgramFault } from './fault.ts';
import type { ArtifactOrigin, Artifacts, KernelSupport } from './ports.ts';

/** A revision that can be loaded. */
export interface Prepared extends VerifiedArtifact {
  readonly resolved: ResolvedSpec;
}

/** What it is made from. */
export interface PreparationParts {
  readonly artifacts: Pick<Artifacts, 'get'>;
  readonly verifier: Pick<ArtifactVerifier, 'verify'>;
  readonly support: () => KernelSupport;
}

/** One per capability. */
export class Preparation {
  readonly #parts: PreparationParts;

  constructor(parts: PreparationParts) {
    this.#parts = parts;
  }

  /** The bytes of an artifact. Throws a ProgramFault. */
  async fetch(digest: string, origin: ArtifactOrigin, signal: AbortSignal): Promise<Uint8Array> {
    try {
      return await this.#parts.artifacts.get(digest, origin, signal);
    } catch (error) {
      throw faultOf('fetch', 'fetch', error);
    }
  }

  /** Verifies them, and joins them with a spec. Throws a ProgramFault. */
  async verify(bytes: Uint8Array, spec: ProgramSpec, signal: AbortSignal): Promise<Prepared> {
    const artifact = await this.#verified(bytes, signal);
    try {
      const resolved = resolveSpec(spec, artifact.metadata);
      this.#refuseMissing(resolved);
      return { ...artifact, resolved };
    } catch (error) {
      throw faultOf('verify', 'attach', error);
    }
  }

  async #verified(bytes: Uint8Array, signal: AbortSignal): Promise<VerifiedArtifact> {
    try {
      return await this.#parts.verifier.verify(bytes, signal);
    } catch (thrown) {
      const error = toLonglineError(thrown);
      const isOfSignature = ['policy', 'identity', 'unavailable', 'late'].includes(error.reason);
      throw new ProgramFault('verify', isOfSignature ? 'signature' : 'artifact', error);
    }
  }

  /** Types that this kernel has nothing for are told as such, and not by what loading them fails with. */
  #refuseMissing({ functions }: ResolvedSpec): void {
    const { types } = this.#parts.support();
    for (const { name, type } of functions) {
      const missing = types.find((support) => support.type === type)?.missing;
      if (missing === undefined) continue;
      throw new ProgramFault(
        'verify',
        'attach',
        new LonglineError(
          'unsupported',
          `function ${name} is of type ${type}, which can't be had on this host: ${missing}`,
        ),
      );
    }
  }
}

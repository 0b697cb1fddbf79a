// Image references as registries and engines understand them: [registry/]repository[:tag][@digest]. Pure.
import { LonglineError } from '../../core/errors.ts';

/** A reference in its full form. */
export interface ImageReference {
  /** "docker.io" where none was given. */
  readonly registry: string;
  /** "library/busybox" for Docker's official images. */
  readonly repository: string;
  /** "latest" if neither tag nor digest was given; undefined if only a digest was. */
  readonly tag: string | undefined;
  /** "sha256:…". */
  readonly digest: string | undefined;
}

const REFERENCE = /^([^@\s]+?)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@([a-z0-9]+:[0-9a-f]{32,}))?$/;
const PATH = /^[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*$/;
const REGISTRY = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$/;

/** Parses a reference. Throws `invalid`, naming the reference. */
export function parseImageReference(text: string): ImageReference {
  const [, name, tag, digest] = REFERENCE.exec(text) ?? [];
  if (name === undefined || text.length > 512) throw badReference(text);
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const named = /[.:]/.test(first) || first === 'localhost';
  const registry = named ? first : 'docker.io';
  let repository = named ? name.slice(slash + 1) : name;
  if (!REGISTRY.test(registry) || !PATH.test(repository)) throw badReference(text);
  if (registry === 'docker.io' && !repository.includes('/')) repository = `library/${repository}`;
  return { registry, repository, tag: tag ?? (digest === undefined ? 'latest' : undefined), digest };
}

/** The digest reference among `digests` that belongs to `reference`, in the engine's own spelling. */
export function matchingDigest(reference: ImageReference, digests: readonly string[]): string | undefined {
  return digests.find((candidate) => {
    const known = tryParse(candidate);
    return (
      known?.registry === reference.registry &&
      known.repository === reference.repository &&
      (reference.digest === undefined || known.digest === reference.digest)
    );
  });
}

function tryParse(text: string): ImageReference | undefined {
  try {
    return parseImageReference(text);
  } catch (error) {
    // Images without a name carry "<none>@<none>" here.
    if (error instanceof LonglineError) return undefined;
    throw error;
  }
}

function badReference(text: string): LonglineError {
  const description = `${JSON.stringify(text.slice(0, 200))} is no image reference; right would be "alpine:3.20" or "name@sha256:…"`;
  return new LonglineError('invalid', `image: ${description}`, { violations: [{ field: 'image', description }] });
}

// Image references, as the OCI distribution specification writes them, and the patterns that allow them. Pure.

/** A well-formed image reference. */
export interface ImageReference {
  /** As it is given to the engine: the text that was parsed, with ":latest" where it named neither tag nor digest. */
  readonly text: string;
  /** Registry host; "docker.io" if none was named. */
  readonly registry: string;
  /** Path in the registry; official images have their "library/". */
  readonly repository: string;
  /** Undefined if the reference is by digest: engines ignore a tag beside a digest. */
  readonly tag: string | undefined;
  /** "sha256:…", or undefined. */
  readonly digest: string | undefined;
}

const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?';
const HOST = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-fA-F:]+\\])(?::[0-9]{1,5})?$`);
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^[a-z][a-z0-9]*(?:[-_+.][a-z][a-z0-9]*)*:[0-9a-f]{32,128}$/;
const DIGEST_DIGITS: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 };
const MAX_NAME = 255;

/** Parses a reference; a string says what is wrong with it. */
export function parseImageReference(text: string): ImageReference | string {
  // An engine takes "sha256:" and the beginning of an id for that image, whatever it is called: no pattern would hold.
  if (/^(?:sha256:[0-9A-Fa-f]+|[0-9a-f]{64})$/.test(text)) {
    return 'an image id is not a reference; give name:tag or name@sha256:…';
  }
  const parts = split(text);
  if (parts.digest !== undefined && !isDigest(parts.digest)) {
    return `digest ${quote(parts.digest)} is not one; "sha256:" and 64 lower-case hexadecimal digits are`;
  }
  if (parts.tag !== undefined && !TAG.test(parts.tag)) {
    return `tag ${quote(parts.tag)} is not one; 1 to 128 of [A-Za-z0-9_.-], not beginning with "." or "-", are`;
  }
  const { registry, repository } = place(parts.name);
  if (parts.name.length > MAX_NAME) return `name has ${parts.name.length} characters; at most ${MAX_NAME} are allowed`;
  if (!HOST.test(registry)) return `registry ${quote(registry)} is not a host name with an optional port`;
  const wrong = repository.split('/').find((component) => !COMPONENT.test(component));
  if (wrong !== undefined) return `name part ${quote(wrong)} is not lower-case letters, digits and single separators`;
  if (/^[0-9a-f]{64}$/.test(parts.name)) return 'an image id is not a reference; give name:tag or name@sha256:…';
  const byDigest = parts.digest !== undefined;
  const tag = byDigest ? undefined : (parts.tag ?? 'latest');
  return {
    text: byDigest || parts.tag !== undefined ? text : `${text}:latest`,
    registry,
    repository,
    tag,
    digest: parts.digest,
  };
}

/** An image pattern that was compiled. */
export interface ImagePattern {
  /** As it was written. */
  readonly text: string;
  matches(reference: ImageReference): boolean;
}

/**
 * Compiles "name", "name:tag" or "name@digest", each part with "*" (anything but "/") and "**" (anything). Without tag
 * and digest every version matches. A reference by digest is matched by digest only, since engines ignore its tag.
 * A string says what is wrong.
 */
export function parseImagePattern(text: string): ImagePattern | string {
  const parts = split(text);
  if (parts.name === '' || /[^A-Za-z0-9._:/*[\]-]/.test(parts.name)) {
    return `pattern ${quote(text)} is not name, name:tag or name@digest with * and **`;
  }
  if (parts.tag !== undefined && !/^[A-Za-z0-9_.*-]+$/.test(parts.tag))
    return `tag pattern ${quote(parts.tag)} is malformed`;
  if (parts.digest !== undefined && !/^[a-z0-9:*+._-]+$/.test(parts.digest)) {
    return `digest pattern ${quote(parts.digest)} is malformed`;
  }
  const { registry, repository } = place(parts.name);
  const name = glob(parts.name.startsWith('**') ? parts.name : `${registry}/${repository}`);
  const tag = parts.tag === undefined ? undefined : glob(parts.tag);
  const digest = parts.digest === undefined ? undefined : glob(parts.digest);
  return {
    text,
    matches: (reference) => {
      if (!name.test(`${reference.registry}/${reference.repository}`)) return false;
      if (tag === undefined && digest === undefined) return true;
      if (reference.digest !== undefined) return digest?.test(reference.digest) ?? false;
      return digest === undefined && tag!.test(reference.tag!);
    },
  };
}

function split(text: string): { name: string; tag: string | undefined; digest: string | undefined } {
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  const rest = at < 0 ? text : text.slice(0, at);
  const colon = rest.lastIndexOf(':');
  const hasTag = colon > rest.lastIndexOf('/');
  return { name: hasTag ? rest.slice(0, colon) : rest, tag: hasTag ? rest.slice(colon + 1) : undefined, digest };
}

function place(name: string): { registry: string; repository: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const named = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  const registry = named ? (first === 'index.docker.io' ? 'docker.io' : first) : 'docker.io';
  const path = named ? name.slice(slash + 1) : name;
  return { registry, repository: registry === 'docker.io' && !path.includes('/') ? `library/${path}` : path };
}

function isDigest(text: string): boolean {
  if (!DIGEST.test(text)) return false;
  const [algorithm, hex] = text.split(':') as [string, string];
  return hex.length === (DIGEST_DIGITS[algorithm] ?? hex.length);
}

function glob(pattern: string): RegExp {
  const source = pattern.replace(/\*\*|\*|[.+?^${}()|[\]\\]/g, (part) => {
    if (part === '**') return '.*';
    return part === '*' ? '[^/]*' : `\\${part}`;
  });
  return new RegExp(`^${source}$`);
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}

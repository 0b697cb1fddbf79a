// Image references, as the OCI distribution specification writes them. Pure.

/** A well-formed image reference. */
export interface ImageReference {
  /** As it is given to the engine: the text that was parsed, with ":latest" where it named neither tag nor digest. */
  readonly text: string;
  /** Registry host in lower case, without the port that it has anyway (443); "docker.io" if none was named. */
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
const DOCKER_HUB = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/** Parses a reference; a string says what is wrong with it. */
export function parseImageReference(text: string): ImageReference | string {
  // An engine takes "sha256:" and the beginning of an id for that image, whatever it is called: no pattern would hold.
  if (/^(?:sha256:[0-9A-Fa-f]+|[0-9a-f]{64})$/.test(text)) {
    return 'an image id is not a reference; give name:tag or name@sha256:…';
  }
  const parts = splitReference(text);
  if (parts.digest !== undefined && !isDigest(parts.digest)) {
    return `digest ${quote(parts.digest)} is not one; "sha256:" and 64 lower-case hexadecimal digits are`;
  }
  if (parts.tag !== undefined && !TAG.test(parts.tag)) {
    return `tag ${quote(parts.tag)} is not one; 1 to 128 of [A-Za-z0-9_.-], not beginning with "." or "-", are`;
  }
  const { registry, repository } = placeOf(parts.name);
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

/** A reference, or a pattern for some, in its parts as written. */
export interface ReferenceParts {
  readonly name: string;
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}

/** Takes a reference or pattern apart; checks nothing. */
export function splitReference(text: string): ReferenceParts {
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  const rest = at < 0 ? text : text.slice(0, at);
  const colon = rest.lastIndexOf(':');
  const hasTag = colon > rest.lastIndexOf('/');
  return { name: hasTag ? rest.slice(0, colon) : rest, tag: hasTag ? rest.slice(colon + 1) : undefined, digest };
}

/** Registry and repository of a name, in the one spelling that all names of an image come down to. */
export function placeOf(name: string): { readonly registry: string; readonly repository: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const named = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  const host = first.toLowerCase().replace(/:443$/, '');
  const registry = !named || DOCKER_HUB.has(host) ? 'docker.io' : host;
  const path = named ? name.slice(slash + 1) : name;
  return { registry, repository: registry === 'docker.io' && !path.includes('/') ? `library/${path}` : path };
}

function isDigest(text: string): boolean {
  if (!DIGEST.test(text)) return false;
  const [algorithm, hex] = text.split(':') as [string, string];
  return hex.length === (DIGEST_DIGITS[algorithm] ?? hex.length);
}

/** For error messages, cut to a line. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}

// Image references and the patterns of policy that match them. Both are brought to one canonical form first, so that
// "alpine", "docker.io/alpine:latest" and "index.docker.io/library/alpine:latest" are the same image to every rule.

/** A reference in canonical form. */
export interface ImageReference {
  /** "docker.io/library/alpine", or "sha256:…" for a bare image id. */
  readonly repository: string;
  /** "latest" where neither tag nor digest is given; empty beside a digest, which alone decides what is run. */
  readonly tag: string;
  /** "sha256:…" or empty. */
  readonly digest: string;
}

const REPOSITORY = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?\/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const EMPTY_PART = /[:@]$|:@/;
const LONGEST_REFERENCE = 512;

/** The canonical form of a reference, or why there is none. */
export function parseImageReference(text: string): ImageReference | { readonly fault: string } {
  if (text.length > LONGEST_REFERENCE) return { fault: `has ${text.length} characters; at most ${LONGEST_REFERENCE}` };
  const id = /^(?:sha256:)?([0-9a-f]{64})$/.exec(text);
  if (id !== null) return { repository: `sha256:${id[1]}`, tag: '', digest: `sha256:${id[1]}` };
  // An engine takes such a name for the beginning of an image id if it knows no image of that name.
  if (/^(?:sha256:)?[0-9A-Fa-f]+$/.test(text))
    return { fault: 'may be an image id; write "name:tag", or the whole "sha256:…"' };
  if (EMPTY_PART.test(text)) return { fault: 'has an empty tag or digest' };
  const { name, tag, digest } = split(text);
  if (!REPOSITORY.test(name)) return { fault: 'is no image reference; write "name:tag" or "name@sha256:…"' };
  if (tag !== '' && !TAG.test(tag)) return { fault: `has the bad tag ${JSON.stringify(tag)}` };
  if (digest !== '' && !DIGEST.test(digest)) return { fault: 'has a bad digest; it is "sha256:" and 64 hex digits' };
  if (digest !== '') return { repository: canonicalRepository(name), tag: '', digest };
  return { repository: canonicalRepository(name), tag: tag === '' ? 'latest' : tag, digest };
}

/**
 * True if the pattern matches. `*` stands for any characters but "/", `**` for any; alone both match every image. A
 * pattern without tag and digest matches every tag and digest. One with a tag doesn't match a reference by digest, since
 * nothing binds a digest to a tag; one with a digest matches only references by digest.
 */
export function imageMatches(pattern: string, image: ImageReference): boolean {
  if (pattern === '*' || pattern === '**') return true;
  if (pattern.startsWith('sha256:')) return image.repository === pattern;
  if (image.repository.startsWith('sha256:')) return false;
  const { name, tag, digest } = split(pattern);
  if (!globMatches(canonicalRepository(name), image.repository)) return false;
  if (digest !== '') return image.digest !== '' && globMatches(digest, image.digest);
  if (tag === '' || tag === '*') return true;
  return image.digest === '' && globMatches(tag, image.tag);
}

/** Why this is no usable pattern; undefined if it is one. */
export function imagePatternFault(pattern: string): string | undefined {
  if (pattern === '*' || pattern === '**' || DIGEST.test(pattern)) return undefined;
  if (EMPTY_PART.test(pattern)) return 'it has an empty tag or digest';
  const { name, tag, digest } = split(pattern);
  const sample = (part: string) => part.replaceAll(/\*+/g, 'x');
  if (!REPOSITORY.test(sample(name))) return 'the name part is no repository with wildcards';
  if (tag !== '' && !TAG.test(sample(tag))) return 'the tag part is no tag with wildcards';
  if (digest !== '' && !/^sha256:(\*|[0-9a-f]{64})$/.test(digest))
    return 'the digest part is not "sha256:*" or a digest';
  return undefined;
}

function split(text: string): { readonly name: string; readonly tag: string; readonly digest: string } {
  const at = text.indexOf('@');
  const digest = at < 0 ? '' : text.slice(at + 1);
  const rest = at < 0 ? text : text.slice(0, at);
  const colon = rest.lastIndexOf(':');
  // A colon before a slash belongs to the port of a registry.
  if (colon <= rest.lastIndexOf('/')) return { name: rest, tag: '', digest };
  return { name: rest.slice(0, colon), tag: rest.slice(colon + 1), digest };
}

function canonicalRepository(name: string): string {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  // As Docker tells registries from users: a dot, a port, "localhost" or capitals.
  const isRegistry = first.includes('.') || first.includes(':') || first === 'localhost' || /[A-Z]/.test(first);
  // "**/x" is meant for every registry.
  if (first === '**') return name;
  const registry = isRegistry
    ? first.toLowerCase().replace(/^(index\.|registry-1\.)?docker\.io$/, 'docker.io')
    : 'docker.io';
  const path = isRegistry ? name.slice(slash + 1) : name;
  return registry === 'docker.io' && !path.includes('/') ? `docker.io/library/${path}` : `${registry}/${path}`;
}

/** Matches a name, such as a key or controller id, against a pattern in which `*` stands for any characters. */
export function nameMatches(pattern: string, name: string): boolean {
  return globMatches(pattern.replaceAll(/\*+/g, '**'), name);
}

/** Matches text against a pattern with `*` and `**`; the rest is literal. */
function globMatches(pattern: string, text: string): boolean {
  return compiledGlob(pattern).test(text);
}

const compiled = new Map<string, RegExp>();

function compiledGlob(pattern: string): RegExp {
  const known = compiled.get(pattern);
  if (known !== undefined) return known;
  const source = pattern
    .split(/(\*+)/)
    .map((part) => {
      if (!part.startsWith('*')) return part.replaceAll(/[\\^$.|?+()[\]{}]/g, '\\$&');
      return part.length > 1 ? '.*' : '[^/]*';
    })
    .join('');
  const expression = new RegExp(`^${source}$`, 's');
  // Patterns come from policy files, which may be reloaded for as long as the agent lives.
  if (compiled.size >= 1000) compiled.clear();
  compiled.set(pattern, expression);
  return expression;
}

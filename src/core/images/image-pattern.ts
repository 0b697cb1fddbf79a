// Patterns of images, for the agent's list of allowed images and for the rules of its policy. Pattern and reference are
// brought to one spelling first, so that "alpine", "docker.io/alpine:latest" and "index.docker.io/library/alpine:latest"
// are one image to every rule, and a registry's port 443 makes no other registry. Pure.
import { compileGlob } from '../glob.ts';
import { type ImageReference, parseImageReference, placeOf, quote, splitReference } from './image-reference.ts';

/** An image pattern that was compiled. */
export interface ImagePattern {
  /** As it was written. */
  readonly text: string;
  matches(reference: ImageReference): boolean;
}

/** Matches every image. */
export const EVERY_IMAGE: ImagePattern = Object.freeze({ text: '*', matches: () => true });

/**
 * Compiles "name", "name:tag" or "name@digest", each part with "*" (anything but "/") and "**" (anything); alone, both stand
 * for every image. Without tag and digest, or with the tag "*", every version matches. Any other tag matches no reference
 * by digest, since engines ignore the tag beside one. A string says what is wrong.
 */
export function parseImagePattern(text: string): ImagePattern | string {
  if (text === '*' || text === '**') return EVERY_IMAGE;
  const fault = patternFault(text);
  if (fault !== undefined) return fault;
  const parts = splitReference(text);
  const { registry, repository } = placeOf(parts.name);
  // "**/x" is meant for every registry.
  const name = compileGlob(parts.name.startsWith('**') ? parts.name : `${registry}/${repository}`);
  const tag = parts.tag === undefined || parts.tag === '*' ? undefined : compileGlob(parts.tag);
  const digest = parts.digest === undefined ? undefined : compileGlob(parts.digest);
  return {
    text,
    matches: (reference) => {
      if (!name.test(`${reference.registry}/${reference.repository}`)) return false;
      if (digest !== undefined) return reference.digest !== undefined && digest.test(reference.digest);
      if (tag === undefined) return true;
      return reference.tag !== undefined && tag.test(reference.tag);
    },
  };
}

/** A pattern must be a reference once its wildcards stand for something. */
function patternFault(text: string): string | undefined {
  const { name, tag, digest } = splitReference(text);
  const some = (part: string) => part.replaceAll(/\*+/g, 'x');
  if (digest !== undefined && !/^sha256:(\*|[0-9a-f]{64})$/.test(digest)) {
    return `${quote(text)}: the digest part is not "sha256:*" or a whole digest`;
  }
  const sample = parseImageReference(tag === undefined ? some(name) : `${some(name)}:${some(tag)}`);
  return typeof sample === 'string' ? `${quote(text)}: with its wildcards filled in, ${sample}` : undefined;
}

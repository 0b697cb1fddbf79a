// What registries differ in: their paths, and what they say of programs. Pure; it knows nothing of HTTP beyond paths.
import type { RefusedListing } from '../../capabilities/programs/ports.ts';

/** A program as a registry lists it. */
export interface ListedProgram {
  /** What the registry calls it, for people. */
  readonly item: string;
  /** longline.v1.ProgramSpec in ProtoJSON. */
  readonly spec: unknown;
}

/** What a list says. */
export interface ProgramList {
  readonly programs: readonly ListedProgram[];
  readonly refused: readonly RefusedListing[];
  /** Paths of artifacts by digest, where they don't follow from it. */
  readonly paths: ReadonlyMap<string, string>;
}

/** How one kind of registry is asked and understood. Paths are below the base URL, without a slash at their start. */
export interface RegistryDialect {
  readonly healthPath: string;
  listPath(hostId: string): string;
  /** Throws `unavailable` for what is no list: what was said before stands. */
  readList(body: unknown): ProgramList;
  /** Undefined if only a list tells. */
  artifactPath(digest: string): string | undefined;
}

/** More programs of one host aren't taken. */
export const MAX_LISTED = 1000;

/** Name of the program that an entry is about, if it says one. */
export function nameIn(entry: unknown): string | undefined {
  const name = isObject(entry) ? entry['name'] : undefined;
  return typeof name === 'string' && name !== '' ? name.slice(0, 100) : undefined;
}

/** True for what JSON calls an object. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// Session templates: named specs in versions that never change. A name's versions go on counting after it was deleted, so
// that "desk:3" always means the same.
import type { Page, PageQuery } from './page.ts';

/** A version of a template. Times are milliseconds since the epoch. */
export interface TemplateRecord {
  readonly name: string;
  readonly version: number;
  /** Serialised SessionSpec, passwords included. */
  readonly spec: Uint8Array;
  readonly description: string;
  readonly createdAtMs: number;
  readonly creator: string;
}

/** A version to be stored. */
export interface TemplateChange extends Omit<TemplateRecord, 'version'> {
  /** SHA-256 over the content: the same again makes no new version. */
  readonly contentHash: Uint8Array;
  /** The latest version that the caller knows, 0 for none; undefined to store it whatever is there. */
  readonly baseVersion: number | undefined;
}

/** What became of a change. */
export type TemplateOutcome =
  /** It is a new version. */
  | { readonly kind: 'stored'; readonly template: TemplateRecord }
  /** The latest version is the same. */
  | { readonly kind: 'unchanged'; readonly template: TemplateRecord }
  /** The latest version isn't the one that the caller knows; 0 for none. */
  | { readonly kind: 'conflict'; readonly latest: number };

/** Templates, ordered by name. */
export interface TemplateRepository {
  put(change: TemplateChange): Promise<TemplateOutcome>;
  /** Version 0 is the latest. */
  get(name: string, version: number): Promise<TemplateRecord | undefined>;
  /** Latest versions of all. */
  list(page: PageQuery): Promise<Page<TemplateRecord>>;
  /** All versions of one, newest first. */
  versions(name: string, page: PageQuery): Promise<Page<TemplateRecord>>;
  /** False if there is none. */
  delete(name: string): Promise<boolean>;
}

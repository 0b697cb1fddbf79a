// A program as it is observed, in plain values: what is found, joined to what is wanted. Pure.
import type { LonglineError } from '../../core/errors.ts';
import type { Life } from './lifecycle.ts';
import type { ArtifactOrigin } from './ports.ts';
import type { RememberedRevision } from './revision-record.ts';
import type { RollbackRecord } from './rollback.ts';

/** Something that is not as wanted. */
export interface Problem {
  /** A field path such as "parameters.limit", "attach[0]", or "artifact", "signature", "verifier", "fetch". */
  readonly field: string;
  readonly error: LonglineError;
  /** What the kernel's verifier said; empty if it is about something else. */
  readonly verifierLog: string;
  /** Milliseconds since the epoch; undefined if it isn't tried again. */
  readonly retryAtMs: number | undefined;
}

/** A loaded revision. */
export interface RevisionView extends RememberedRevision {
  /** Ids in the kernel, by function. */
  readonly programIds: Readonly<Record<string, number>>;
}

/** Where a function is attached. */
export interface LinkView {
  readonly function: string;
  /** "xdp:eth0". */
  readonly attach: string;
  /** 0 for one without a link. */
  readonly linkId: number;
  readonly atomic: boolean;
}

/** A program as it is observed. */
export interface ProgramView {
  readonly name: string;
  readonly source: ArtifactOrigin;
  readonly life: Life;
  /** When that became so, milliseconds since the epoch. */
  readonly lifeAtMs: number;
  /** What runs, or did until it was lost; undefined for nothing. */
  readonly current: RevisionView | undefined;
  /** What stays loaded to go back to. */
  readonly previous: RevisionView | undefined;
  /** "sha256:…"; empty if it is to go. */
  readonly wantedArtifact: string;
  /** SHA-256 of the spec that is wanted, in hex; empty if it is to go. */
  readonly wantedHash: string;
  readonly quarantined: boolean;
  readonly problems: readonly Problem[];
  readonly links: readonly LinkView[];
  /** Milliseconds since the epoch; undefined for never, or if it never began. */
  readonly expiresAtMs: number | undefined;
  readonly lastRollback: RollbackRecord | undefined;
}

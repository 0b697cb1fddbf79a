// A revision of a program as it is kept: with all that is needed to watch it, to go back to it, and to load it again.
import type { ArtifactEvents, ArtifactMetadata, ThresholdDraft } from '../../core/programs/metadata.ts';
import type { Lifetime } from './lifetime.ts';
import type { Place } from './place.ts';
import type { ProgramType } from './ports.ts';

/** One revision. Survives JSON as toJson writes it. */
export interface RevisionRecord {
  /** From 1. */
  readonly number: number;
  /** What it was loaded for: "sha256:…" of the artifact, and a digest of the parameters. */
  readonly artifact: string;
  readonly settings: string;
  /** Where it was asked to go, and a digest of all of the spec that it is here by. */
  readonly layout: string;
  readonly whole: string;
  /** That spec: serialised longline.v1.ProgramSpec, in base64. */
  readonly spec: string;
  readonly artifactName: string;
  readonly version: string;
  readonly objectSha256: string;
  readonly signers: readonly string[];
  readonly functions: readonly { readonly name: string; readonly type: ProgramType }[];
  readonly places: readonly Place[];
  /** Maps that parameters are written to, with a digest of what. */
  readonly mapWrites: Readonly<Record<string, string>>;
  readonly counters: ArtifactMetadata['counters'];
  readonly events: readonly ArtifactEvents[];
  /** Of the artifact. */
  readonly thresholds: ThresholdDraft;
  /** Of the artifact. */
  readonly ttlMs: number | undefined;
  /** Milliseconds since the epoch. */
  readonly loadedAtMs: number;
  /** When it passed probation. */
  readonly activeAtMs: number | undefined;
  /** Time on probation so far; undefined before. */
  readonly probation: Lifetime | undefined;
}

/** A revision as it is remembered. */
export type RememberedRevision = Pick<
  RevisionRecord,
  'number' | 'artifact' | 'artifactName' | 'version' | 'signers' | 'loadedAtMs' | 'activeAtMs'
>;

/** What is kept of a revision. */
export function remembered(revision: RevisionRecord): RememberedRevision {
  const { number, artifact, artifactName, version, signers, loadedAtMs, activeAtMs } = revision;
  return { number, artifact, artifactName, version, signers, loadedAtMs, activeAtMs };
}

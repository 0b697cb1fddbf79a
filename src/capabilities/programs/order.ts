// What is wanted of one program, ready to be compared with what is there. Pure.
import { hash } from 'node:crypto';
import { requestText } from '../../core/programs/attach-point.ts';
import { type ProgramSpec, programSpecMessage, readProgramSpec } from '../../core/programs/program-spec.ts';
import type { ArtifactOrigin } from './ports.ts';
import type { QuarantineQuestion } from './quarantine.ts';
import { encodeSpec, type ProgramSpecInput, specMessage } from './wire.ts';

/** A program that is wanted. */
export interface ProgramOrder {
  readonly source: ArtifactOrigin;
  readonly spec: ProgramSpec;
  /** Serialised longline.v1.ProgramSpec in canonical form. */
  readonly bytes: Uint8Array;
  /** Digest of the parameters: with the artifact, what a revision is loaded for. */
  readonly settings: string;
  /** Where it goes, as text. */
  readonly layout: string;
  /** SHA-256 of `bytes`, in hex. */
  readonly whole: string;
}

/** Checks a spec. Throws `invalid` with everything that is wrong. */
export function orderOf(source: ArtifactOrigin, message: ProgramSpecInput): ProgramOrder {
  const spec = readProgramSpec(message);
  const bytes = encodeSpec(specMessage(programSpecMessage(spec)));
  const parameters = [...spec.parameters].sort(([one], [other]) => (one < other ? -1 : 1));
  return {
    source,
    spec,
    bytes,
    settings: hash('sha256', JSON.stringify(parameters)).slice(0, 32),
    layout: JSON.stringify(spec.attach.map(requestText)),
    whole: hash('sha256', bytes),
  };
}

/** What quarantine is asked about an order. */
export function questionOf({ spec, settings }: ProgramOrder): QuarantineQuestion {
  return { artifact: spec.artifact, settings, program: spec.name, renewal: String(spec.renewal) };
}

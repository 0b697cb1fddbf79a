// A program of one host as it is asked for, by the shape of longline.v1.ProgramSpec and not by generated code: agent, controller
// and command line all read it, each with its own slice of the contract. Pure. What is wrong is `invalid`, with every field.
import { type FieldViolation, invalid } from '../errors.ts';
import { type AttachRequest, parseAttach, requestText } from './attach-point.ts';
import type { ThresholdDraft } from './metadata.ts';
import { MAX_PARAMETER_TEXT } from './parameter.ts';
import { type Refuse, readThresholds, type ThresholdsMessage, thresholdsMessage } from './thresholds.ts';
import { type DurationMessage, durationMessage, readTtl } from './ttl.ts';

/** A longline.v1.ProgramSpec. */
export interface ProgramSpecMessage {
  readonly name: string;
  readonly artifact: string;
  readonly attach: readonly string[];
  readonly parameters: Readonly<Record<string, string>>;
  readonly ttl?: DurationMessage | undefined;
  readonly thresholds?: ThresholdsMessage | undefined;
  readonly renewal: bigint;
}

/** A program as it is asked for, within bounds. Whether it fits its artifact is for resolveSpec to say. */
export interface ProgramSpec {
  readonly name: string;
  /** "sha256:…". */
  readonly artifact: string;
  /** Empty for what the artifact says. */
  readonly attach: readonly AttachRequest[];
  readonly parameters: ReadonlyMap<string, string>;
  /** Undefined for what artifact or host say; 0 for ever. */
  readonly ttlMs: number | undefined;
  readonly thresholds: ThresholdDraft;
  readonly renewal: bigint;
}

/** Names of programs, and of artifacts in their metadata. */
export const PROGRAM_NAME = /^[A-Za-z][A-Za-z0-9_-]{0,62}$/;
/** The same in words. */
export const PROGRAM_NAME_FORM = 'a letter, then letters, digits, "_" and "-", at most 63 in all';
/** Names of parameters. */
export const PARAMETER_NAME = PROGRAM_NAME;
/** Digest of an artifact. */
export const ARTIFACT_DIGEST = /^sha256:[0-9a-f]{64}$/;
/** The same in words. */
export const ARTIFACT_DIGEST_FORM = '"sha256:" and the 64 hex digits of artifact.tar.zst, in lower case';

const MAX_ATTACH = 64;
const MAX_PARAMETERS = 256;

/** Reads a spec. Throws `invalid` with every violation; `at` is put before each field: "spec.". */
export function readProgramSpec(message: ProgramSpecMessage, at = ''): ProgramSpec {
  const violations: FieldViolation[] = [];
  const refuse: Refuse = (field, description) => violations.push({ field: `${at}${field}`, description });
  const { name, artifact, renewal } = message;
  if (!PROGRAM_NAME.test(name)) refuse('name', `${shown(name)}; must be ${PROGRAM_NAME_FORM}`);
  if (!ARTIFACT_DIGEST.test(artifact)) refuse('artifact', `${shown(artifact)}; must be ${ARTIFACT_DIGEST_FORM}`);
  const spec: ProgramSpec = {
    name,
    artifact,
    attach: readAttach(message.attach, refuse),
    parameters: readParameters(message.parameters, refuse),
    ttlMs: readTtl(message.ttl, 'ttl', refuse),
    thresholds: readThresholds(message.thresholds, 'thresholds', refuse),
    renewal,
  };
  if (violations.length > 0) throw invalid(violations);
  return spec;
}

/** A spec as a message in canonical form: equal specs have equal messages, whoever wrote them how. */
export function programSpecMessage(spec: ProgramSpec): ProgramSpecMessage {
  const thresholds = thresholdsMessage(spec.thresholds);
  return {
    name: spec.name,
    artifact: spec.artifact,
    attach: spec.attach.map(requestText),
    parameters: Object.fromEntries([...spec.parameters].sort(([one], [other]) => (one < other ? -1 : 1))),
    ...(spec.ttlMs !== undefined && { ttl: durationMessage(spec.ttlMs) }),
    ...(thresholds !== undefined && { thresholds }),
    renewal: spec.renewal,
  };
}

function readAttach(texts: readonly string[], refuse: Refuse): readonly AttachRequest[] {
  if (texts.length > MAX_ATTACH) {
    refuse('attach', `${texts.length} places are too many; at most ${MAX_ATTACH}`);
    return [];
  }
  const places = new Map<string, number>();
  return texts.flatMap((text, place) => {
    const read = parseAttach(text);
    if (!read.ok) {
      refuse(`attach[${place}]`, read.problem);
      return [];
    }
    const twin = places.get(requestText(read.request));
    if (twin !== undefined) refuse(`attach[${place}]`, `${shown(text)}, which is attach[${twin}] again`);
    places.set(requestText(read.request), twin ?? place);
    return [read.request];
  });
}

function readParameters(given: Readonly<Record<string, string>>, refuse: Refuse): ReadonlyMap<string, string> {
  const entries = Object.entries(given);
  if (entries.length > MAX_PARAMETERS) {
    refuse('parameters', `${entries.length} parameters are too many; at most ${MAX_PARAMETERS}`);
    return new Map();
  }
  for (const [name, text] of entries) {
    if (!PARAMETER_NAME.test(name)) {
      refuse('parameters', `${shown(name)} is no name of a parameter; that is ${PROGRAM_NAME_FORM}`);
    } else if (text.length > MAX_PARAMETER_TEXT) {
      refuse(`parameters.${name}`, `has ${text.length} characters; at most ${MAX_PARAMETER_TEXT}`);
    }
  }
  return new Map(entries);
}

function shown(text: string): string {
  return text === '' ? 'missing' : `got ${JSON.stringify(text.slice(0, 100))}`;
}

// Reads what an artifact says of itself, by the shape of longline.v1.ProgramMetadata and not by generated code. Pure. What is wrong
// is `invalid`, with every field: "parameters[1].min".
import { type FieldViolation, invalid } from '../errors.ts';
import { type AttachRequest, attachText, KIND_OF_TYPE, parseAttach } from './attach-point.ts';
import type { ArtifactFunction, ArtifactMetadata } from './metadata.ts';
import { MAP_NAME, SYMBOL_NAME, shownValue } from './metadata-names.ts';
import { type ParameterMessage, readParameters } from './metadata-parameters.ts';
import { type CountersMessage, type EventsMessage, readCounters, readEvents } from './metadata-telemetry.ts';
import { PROGRAM_NAME, PROGRAM_NAME_FORM } from './program-spec.ts';
import { PROGRAM_TYPES } from './program-type.ts';
import { type Refuse, readThresholds, type ThresholdsMessage } from './thresholds.ts';
import { type DurationMessage, readTtl } from './ttl.ts';

/** A longline.v1.ProgramFunction. */
export interface FunctionMessage {
  readonly name: string;
  readonly type: number;
  readonly attach: readonly string[];
}

/** A longline.v1.ProgramMetadata. Enums are the numbers of the contract. */
export interface ProgramMetadataMessage {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly objectSha256: string;
  readonly objectSize: bigint;
  readonly functions: readonly FunctionMessage[];
  readonly parameters: readonly ParameterMessage[];
  readonly counters?: CountersMessage | undefined;
  readonly events: readonly EventsMessage[];
  readonly thresholds?: ThresholdsMessage | undefined;
  readonly minimumKernel: string;
  readonly ttl?: DurationMessage | undefined;
  readonly freshMaps: readonly string[];
  readonly expireTime?: { readonly seconds: bigint; readonly nanos: number } | undefined;
}

/** Largest object, in bytes. */
export const MAX_OBJECT_BYTES = 64 * 1024 * 1024;
const SEMVER = /^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z.-]{1,64})?(\+[0-9A-Za-z.-]{1,64})?$/;
const KERNEL = /^(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})(\.(0|[1-9]\d{0,4}))?$/;
const MAX_DESCRIPTION = 1024;
const MAX_FUNCTIONS = 64;
const MAX_ATTACH = 16;
const MAX_FRESH_MAPS = 64;
/** Of the year 9999. */
const LAST_SECOND = 253_402_300_799n;

/** Reads metadata. Throws `invalid` with every violation. Whether the object is the one it tells of, `checkObject` says. */
export function readMetadata(message: ProgramMetadataMessage): ArtifactMetadata {
  const violations: FieldViolation[] = [];
  const refuse: Refuse = (field, description) => violations.push({ field, description });
  const metadata: ArtifactMetadata = {
    ...readHead(message, refuse),
    functions: readFunctions(message.functions, refuse),
    parameters: readParameters(message.parameters, refuse),
    counters: readCounters(message.counters, refuse),
    events: readEvents(message.events, refuse),
    thresholds: readThresholds(message.thresholds, 'thresholds', refuse),
    minimumKernel: readKernel(message.minimumKernel, refuse),
    ttlMs: readTtl(message.ttl, 'ttl', refuse),
    freshMaps: readMaps(message.freshMaps, refuse),
    expiresAtMs: readInstant(message.expireTime, refuse),
  };
  if (violations.length > 0) throw invalid(violations);
  return metadata;
}

function readHead(message: ProgramMetadataMessage, refuse: Refuse) {
  const { name, version, description, objectSha256, objectSize } = message;
  if (!PROGRAM_NAME.test(name)) refuse('name', `${shownValue(name)}; must be ${PROGRAM_NAME_FORM}`);
  if (!SEMVER.test(version)) refuse('version', `${shownValue(version)}; must be a version such as "1.4.0"`);
  if (description.length > MAX_DESCRIPTION) {
    refuse('description', `has ${description.length} characters; at most ${MAX_DESCRIPTION}`);
  }
  if (!/^[0-9a-f]{64}$/.test(objectSha256)) {
    refuse('object_sha256', `${shownValue(objectSha256)}; must be the 64 hex digits of the object's SHA-256`);
  }
  if (objectSize < 1n || objectSize > BigInt(MAX_OBJECT_BYTES)) {
    refuse('object_size', `got ${objectSize}; must be the bytes of the object, from 1 to ${MAX_OBJECT_BYTES}`);
  }
  return { name, version, description, objectSha256, objectSize: Number(objectSize) };
}

function readFunctions(messages: readonly FunctionMessage[], refuse: Refuse): readonly ArtifactFunction[] {
  if (messages.length < 1 || messages.length > MAX_FUNCTIONS) {
    refuse('functions', `there are ${messages.length}; must be 1 to ${MAX_FUNCTIONS}`);
    return [];
  }
  const names = new Set<string>();
  return messages.flatMap((message, place) => {
    const at = `functions[${place}]`;
    const { name } = message;
    if (!SYMBOL_NAME.test(name))
      refuse(`${at}.name`, `${shownValue(name)}; must be the name of a function of the object`);
    else if (names.has(name)) refuse(`${at}.name`, `"${name}" is there twice`);
    names.add(name);
    const type = PROGRAM_TYPES[message.type - 1];
    if (type === undefined) {
      refuse(
        `${at}.type`,
        `${message.type === 0 ? 'missing' : `got ${message.type}`}; must be one of ${PROGRAM_TYPES.join(', ')}`,
      );
      return [];
    }
    return [{ name, type, attach: readPlaces({ name, type, attach: message.attach }, at, refuse) }];
  });
}

function readPlaces(
  {
    name,
    type,
    attach,
  }: { readonly name: string; readonly type: ArtifactFunction['type']; readonly attach: readonly string[] },
  at: string,
  refuse: Refuse,
): readonly AttachRequest[] {
  if (attach.length > MAX_ATTACH) refuse(`${at}.attach`, `${attach.length} places are too many; at most ${MAX_ATTACH}`);
  const places = new Set<string>();
  return attach.slice(0, MAX_ATTACH).flatMap((text, place) => {
    const field = `${at}.attach[${place}]`;
    const read = parseAttach(text);
    if (!read.ok) {
      refuse(field, read.problem);
      return [];
    }
    const { point, function: named } = read.request;
    if (named !== undefined && named !== name) refuse(field, `names ${named}; it stands at ${name}, and needs no name`);
    if (KIND_OF_TYPE[type] !== point.kind) {
      refuse(
        field,
        `${name} is of type ${type} and can't go to ${attachText(point)}; it goes to "${KIND_OF_TYPE[type]}:…"`,
      );
    }
    if (places.has(attachText(point))) refuse(field, `${attachText(point)} is there twice`);
    places.add(attachText(point));
    return [{ function: name, point }];
  });
}

function readInstant(time: ProgramMetadataMessage['expireTime'], refuse: Refuse): number | undefined {
  if (time === undefined) return undefined;
  if (time.seconds < 0n || time.seconds > LAST_SECOND) {
    refuse('expire_time', `got ${time.seconds} s; must be a time from 1970 to 9999`);
    return undefined;
  }
  return Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6);
}

function readKernel(text: string, refuse: Refuse): string | undefined {
  if (text === '') return undefined;
  if (!KERNEL.test(text)) refuse('minimum_kernel', `${shownValue(text)}; must be a version such as "5.15" or "6.1.2"`);
  return text;
}

function readMaps(maps: readonly string[], refuse: Refuse): readonly string[] {
  if (maps.length > MAX_FRESH_MAPS) refuse('fresh_maps', `${maps.length} maps are too many; at most ${MAX_FRESH_MAPS}`);
  for (const [place, map] of maps.slice(0, MAX_FRESH_MAPS).entries()) {
    if (!MAP_NAME.test(map)) refuse(`fresh_maps[${place}]`, `${shownValue(map)}; must be the name of a map`);
  }
  return maps;
}

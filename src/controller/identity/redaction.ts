// What a viewer doesn't get to see: values of environment variables and inline input, wherever in an answer they are. Done
// to every answer in one place, so that no method can forget it. Names of variables stay.
import { clone, type DescMessage, type Message, ScalarType } from '@bufbuild/protobuf';
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';

/** What stands in the place of a value; documented in the contract. */
export const REDACTED = '[redacted]';

/** Fields with secrets, by message. Maps of strings keep their keys. */
export const SECRET_FIELDS: Readonly<Record<string, readonly string[]>> = {
  'longline.v1.JobSpec': ['env', 'stdin_data'],
  'longline.v1.SessionSpec': ['env'],
  // Made from the whole spec: who knows the rest could try out which password gives it.
  'longline.v1.Session': ['spec_hash'],
  'longline.v1.SessionStatus': ['spec_hash'],
  // Those of a network share hold its password.
  'longline.v1.SessionVolume': ['driver_options'],
  // Kept out of answers to anybody; here in case that is ever forgotten.
  'longline.v1.SessionVnc': ['password'],
};

/** A copy of the message without secrets; the message itself if its kind can hold none. */
export function redacted<T extends Message>(schema: DescMessage, message: T): T {
  if (!mayHoldSecrets(schema)) return message;
  const copy = clone(schema, message);
  redact(reflect(schema, copy));
  return copy as T;
}

function redact(message: ReflectMessage): void {
  const secret = SECRET_FIELDS[message.desc.typeName] ?? [];
  for (const field of message.fields) {
    if (!message.isSet(field)) continue;
    if (secret.includes(field.name)) {
      if (field.fieldKind === 'map') {
        const map = message.get(field);
        for (const key of [...map.keys()]) map.set(key, REDACTED);
      } else if (field.fieldKind === 'scalar') {
        message.set(field, field.scalar === ScalarType.BYTES ? Buffer.from(REDACTED) : REDACTED);
      }
    } else if (field.fieldKind === 'message') {
      redact(message.get(field));
    } else if (field.fieldKind === 'list' && field.listKind === 'message') {
      for (const item of message.get(field)) redact(item as ReflectMessage);
    } else if (field.fieldKind === 'map' && field.mapKind === 'message') {
      for (const item of message.get(field).values()) redact(item as ReflectMessage);
    }
  }
}

const known = new Map<DescMessage, boolean>();

function mayHoldSecrets(schema: DescMessage): boolean {
  let may = known.get(schema);
  if (may === undefined) {
    may = [...reachable(schema)].some((message) => message.typeName in SECRET_FIELDS);
    known.set(schema, may);
  }
  return may;
}

/** A message and all that it can contain. */
export function reachable(schema: DescMessage, found = new Set<DescMessage>()): ReadonlySet<DescMessage> {
  if (found.has(schema)) return found;
  found.add(schema);
  for (const field of schema.fields) if (field.message !== undefined) reachable(field.message, found);
  return found;
}

// Filling a template in: what is set in the request wins, lists replace those of the template, maps add to it. Pure.
import { clone, type DescMessage } from '@bufbuild/protobuf';
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import { type SessionSpec, SessionSpecSchema } from '#gen/longline/v1/session_pb.js';

/** Messages that are one value: their fields aren't mixed. */
const isOneValue = (desc: DescMessage): boolean => desc.typeName.startsWith('google.protobuf.');

function mergeInto(base: ReflectMessage, over: ReflectMessage): void {
  for (const field of over.fields) {
    if (!over.isSet(field)) continue;
    switch (field.fieldKind) {
      case 'list':
        base.set(field, over.get(field));
        break;
      case 'map': {
        const merged = base.get(field);
        for (const [key, value] of over.get(field)) merged.set(key, value);
        break;
      }
      case 'message': {
        const mixed = base.isSet(field) && !isOneValue(field.message);
        if (mixed) mergeInto(base.get(field) as ReflectMessage, over.get(field) as ReflectMessage);
        else base.set(field, over.get(field));
        break;
      }
      default:
        base.set(field, over.get(field));
    }
  }
}

/** A template's spec with a request's laid over it. Neither is changed. */
export function mergedSpec(template: SessionSpec, request: SessionSpec | undefined): SessionSpec {
  const merged = clone(SessionSpecSchema, template);
  if (request === undefined) return merged;
  mergeInto(reflect(SessionSpecSchema, merged), reflect(SessionSpecSchema, clone(SessionSpecSchema, request)));
  return merged;
}

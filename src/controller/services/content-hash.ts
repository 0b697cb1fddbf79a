// Tells whether two messages say the same, in whatever order their maps came. Pure.
import { createHash } from 'node:crypto';
import { type DescMessage, type MessageShape, toJson } from '@bufbuild/protobuf';

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)]));
}

/** SHA-256 over the content of a message. */
export function contentHash<D extends DescMessage>(schema: D, message: MessageShape<D>): Uint8Array {
  return createHash('sha256')
    .update(JSON.stringify(sorted(toJson(schema, message))))
    .digest();
}

// Newline-separated JSON objects from a byte stream, as engines send progress and events. Bounded and guarded: a line
// that isn't a JSON object is an error that shows its beginning, not a crash.
import { LonglineError } from '../../core/errors.ts';

const LINE_LIMIT_CHARS = 1024 * 1024;

/** A parsed line; nothing about its members is known. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Gives each line's object as soon as the line is whole. A last line needs no newline. Throws what the source throws. */
export async function* jsonLines(source: AsyncIterable<Uint8Array>): AsyncGenerator<JsonObject, void, undefined> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of source) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop()!;
    if (rest.length > LINE_LIMIT_CHARS) {
      throw new LonglineError(
        'internal',
        `the container engine sent a line longer than ${LINE_LIMIT_CHARS} characters`,
      );
    }
    for (const line of lines) if (line.trim() !== '') yield parse(line);
  }
  rest += decoder.decode();
  if (rest.trim() !== '') yield parse(rest);
}

/** A member that is an object; an empty one otherwise. */
export function objectMember(value: JsonObject, key: string): JsonObject {
  const member = value[key];
  return typeof member === 'object' && member !== null && !Array.isArray(member) ? (member as JsonObject) : {};
}

/** A member that is a string; '' otherwise. */
export function textMember(value: JsonObject, key: string): string {
  const member = value[key];
  return typeof member === 'string' ? member : '';
}

/** A member that is a finite number; 0 otherwise. */
export function numberMember(value: JsonObject, key: string): number {
  const member = value[key];
  return typeof member === 'number' && Number.isFinite(member) ? member : 0;
}

function parse(line: string): JsonObject {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  } catch (error) {
    throw malformed(line, error);
  }
  throw malformed(line, undefined);
}

function malformed(line: string, cause: unknown): LonglineError {
  const shown = JSON.stringify(line.slice(0, 100));
  return new LonglineError('internal', `the container engine sent a line that is no JSON object: ${shown}`, { cause });
}

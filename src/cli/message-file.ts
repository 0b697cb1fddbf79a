// Files with the fields of a message of the contract: TOML or JSON, written as people write them: durations as "10m", sizes as
// "2GiB" (memory or memory_bytes), enums as "pause". Everything wrong is told by path.
import { readFile } from 'node:fs/promises';
import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonValue,
  type MessageShape,
  ScalarType,
} from '@bufbuild/protobuf';
import { parse, TomlDate } from 'smol-toml';
import { parseByteSize } from '../core/byte-size.ts';
import { parseDuration } from '../core/clock.ts';
import { type FieldViolation, invalid, LonglineError } from '../core/errors.ts';

type Json = { [key: string]: JsonValue };
type Table = Readonly<Record<string, unknown>>;

const isTable = (value: unknown): value is Table =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Turns what people write into the JSON form of the message. */
class Reader {
  readonly violations: FieldViolation[] = [];

  message(desc: DescMessage, value: unknown, path: string): JsonValue {
    if (desc.typeName === 'google.protobuf.Duration') return this.#duration(value, path);
    if (desc.typeName === 'google.protobuf.Timestamp') return this.#instant(value, path);
    if (!isTable(value)) return this.#wrong(path, value, 'a table');
    const result: Json = {};
    for (const [key, item] of Object.entries(value)) {
      const field =
        desc.fields.find(({ name, jsonName }) => name === key || jsonName === key) ??
        desc.fields.find(({ name }) => name === `${key}_bytes`);
      const at = path === '' ? key : `${path}.${key}`;
      if (field === undefined) {
        const names = desc.fields.map(({ name }) => name).join(', ');
        this.violations.push({ field: at, description: `is unknown; known are: ${names}` });
      } else result[field.name] = this.#field(field, item, at);
    }
    return result;
  }

  #field(field: DescField, value: unknown, path: string): JsonValue {
    if (field.fieldKind === 'list') {
      if (!Array.isArray(value)) return this.#wrong(path, value, 'a list');
      return value.map((item, index) => this.#single(field, field.message, item, `${path}[${index}]`));
    }
    if (field.fieldKind !== 'map') return this.#single(field, field.message, value, path);
    if (!isTable(value)) return this.#wrong(path, value, 'a table');
    const read = (item: unknown, at: string) =>
      field.message === undefined ? this.#text(item, at) : this.message(field.message, item, at);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, read(item, `${path}.${key}`)]));
  }

  #single(field: DescField, message: DescMessage | undefined, value: unknown, path: string): JsonValue {
    if (message !== undefined) return this.message(message, value, path);
    if (field.enum !== undefined) {
      const names = field.enum.values.map(({ name, localName }) => [name, localName.toLowerCase()] as const);
      const found = names.find(([name, short]) => value === name || String(value).toLowerCase() === short);
      const known = names.slice(1).map(([, short]) => short);
      return found?.[0] ?? this.#wrong(path, value, `one of ${known.join(', ')}`);
    }
    if (field.name.endsWith('_bytes') && typeof value === 'string') {
      const bytes = parseByteSize(value);
      return bytes === undefined ? this.#wrong(path, value, 'a size such as "512MiB"') : String(bytes);
    }
    if (field.scalar === ScalarType.STRING && typeof value !== 'string') return this.#wrong(path, value, 'a string');
    return typeof value === 'bigint' ? String(value) : (value as JsonValue);
  }

  #text(value: unknown, path: string): JsonValue {
    const plain = typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
    return plain ? String(value) : this.#wrong(path, value, 'a string');
  }

  #duration(value: unknown, path: string): JsonValue {
    const ms = typeof value === 'string' || typeof value === 'number' ? parseDuration(String(value)) : undefined;
    return ms === undefined ? this.#wrong(path, value, 'a duration such as "10m"') : `${ms / 1000}s`;
  }

  #instant(value: unknown, path: string): JsonValue {
    const text = value instanceof TomlDate && value.isDateTime() && !value.isLocal() ? value.toISOString() : value;
    if (typeof text === 'string' && !Number.isNaN(Date.parse(text)) && /(Z|[+-]\d\d:\d\d)$/.test(text)) {
      return new Date(text).toISOString();
    }
    return this.#wrong(path, value, 'a time with zone such as 2030-01-31T12:00:00Z');
  }

  #wrong(path: string, value: unknown, form: string): null {
    this.violations.push({
      field: path === '' ? 'file' : path,
      description: `is ${JSON.stringify(value)}; must be ${form}`,
    });
    return null;
  }
}

function parseText(text: string, path: string): unknown {
  try {
    return path.endsWith('.json') ? (JSON.parse(text) as unknown) : parse(text);
  } catch (error) {
    const form = path.endsWith('.json') ? 'JSON' : 'TOML';
    throw new LonglineError('invalid', `${path} is no ${form}: ${(error as Error).message}`, { cause: error });
  }
}

/** Parses a file's text into a table; `path` says by its ending what it is. Throws `invalid`. */
export function parseTable(text: string, path: string): Table {
  const value = parseText(text, path);
  if (isTable(value)) return value;
  throw new LonglineError('invalid', `${path} holds no table`);
}

/**
 * The message that a table describes. Throws `invalid` with everything that is wrong, `others` included, which were found
 * beside it; `path` is for what can't be told by field.
 */
export function messageFrom<Desc extends DescMessage>(
  desc: Desc,
  table: Table,
  path: string,
  others: readonly FieldViolation[] = [],
): MessageShape<Desc> {
  const reader = new Reader();
  const json = reader.message(desc, table, '');
  const violations = [...reader.violations, ...others];
  if (violations.length > 0) throw invalid(violations);
  try {
    return fromJson(desc, json);
  } catch (error) {
    throw new LonglineError('invalid', `${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** The text of a file that an option or argument names. Throws `invalid` if it can't be read. */
export async function readNamedFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new LonglineError('invalid', `${path} can't be read: ${(error as Error).message}`, { cause: error });
  }
}

// Strict reading of TOML files: every wrong type, unknown key and bad value is collected with its path and line, so
// that one run tells of all mistakes. Knows nothing of what the files mean, and reads no file.
import { parse, TomlDate, TomlError } from 'smol-toml';
import { parseByteSize } from '../byte-size.ts';
import { parseDuration } from '../clock.ts';
import { type FieldViolation, invalid } from '../errors.ts';
import { indexLines, type LineIndex } from './line-index.ts';

interface Findings {
  readonly violations: FieldViolation[];
  /** Made with the first mistake: in a long file it takes as long as parsing. */
  readonly lines: () => LineIndex;
}

/** Parses a whole file with `read`, which must take every key it knows. Throws `invalid` with all violations. */
export function readToml<T>(text: string, read: (root: TomlTable) => T): T {
  let values: Readonly<Record<string, unknown>>;
  try {
    values = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const what = error.message.split('\n')[0]!.replace(/^Invalid TOML document: /, '');
    throw invalid([{ field: `line ${error.line}`, description: `not valid TOML: ${what} (column ${error.column})` }]);
  }
  let lines: LineIndex | undefined;
  return readStrictly(values, () => (lines ??= indexLines(text)), read);
}

/** As readToml, for values that another format gave. */
export function readValues<T>(values: Readonly<Record<string, unknown>>, read: (root: TomlTable) => T): T {
  return readStrictly(values, () => new Map(), read);
}

function readStrictly<T>(
  values: Readonly<Record<string, unknown>>,
  lines: Findings['lines'],
  read: (root: TomlTable) => T,
): T {
  const findings: Findings = { violations: [], lines };
  const root = new TomlTable(values, '', findings);
  const result = read(root);
  root.finish();
  if (findings.violations.length > 0) throw invalid(findings.violations);
  return result;
}

/** One table. Each getter returns undefined, and notes a violation, if the value is absent where required, or wrong. */
export class TomlTable {
  readonly path: string;
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #findings: Findings;
  readonly #known = new Set<string>();
  readonly #children: TomlTable[] = [];

  constructor(values: Readonly<Record<string, unknown>>, path: string, findings: Findings) {
    this.#values = values;
    this.path = path;
    this.#findings = findings;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#values, key);
  }

  /** Its keys in order, for a table whose keys are free. */
  keys(): readonly string[] {
    return Object.keys(this.#values);
  }

  /** Notes that a value of this table, or the table itself (key ''), is wrong. */
  fail(key: string, description: string): undefined {
    const field = this.#pathOf(key);
    const line = this.#findings.lines().get(field) ?? this.#findings.lines().get(this.path);
    this.#findings.violations.push({
      field: field === '' ? 'file' : field,
      description: line === undefined ? description : `${description} (line ${line})`,
    });
    return undefined;
  }

  string(key: string, pattern?: RegExp, form?: string): string | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'string') return this.#wrong(key, value, 'a string');
    if (pattern !== undefined && !pattern.test(value)) return this.#wrong(key, value, form ?? `of the form ${pattern}`);
    return value;
  }

  /** A string, or a whole number as text. */
  stringOrWhole(key: string): string | undefined {
    const value = this.#take(key);
    if (value === undefined || typeof value === 'string') return value;
    return Number.isSafeInteger(value) ? String(value) : this.#wrong(key, value, 'a string or a whole number');
  }

  requiredString(key: string, pattern?: RegExp, form?: string): string | undefined {
    if (!this.has(key)) return this.#absent(key, form ?? 'a string');
    return this.string(key, pattern, form);
  }

  /** A string that no message may show. */
  secretString(key: string): string | undefined {
    const value = this.#take(key);
    if (value === undefined || typeof value === 'string') return value;
    return this.fail(key, 'must be a string');
  }

  boolean(key: string): boolean | undefined {
    const value = this.#take(key);
    if (value === undefined || typeof value === 'boolean') return value;
    return this.#wrong(key, value, 'true or false');
  }

  number(key: string, min: number, max: number, whole: boolean): number | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && value >= min && value <= max && (!whole || Number.isInteger(value))) return value;
    return this.#wrong(key, value, `a ${whole ? 'whole ' : ''}number from ${min} to ${max}`);
  }

  /** A duration such as "5m", or a number of seconds; in milliseconds. */
  duration(key: string, minMs: number, maxMs: number): number | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    const ms = typeof value === 'string' || typeof value === 'number' ? parseDuration(String(value)) : undefined;
    if (ms !== undefined && ms >= minMs && ms <= maxMs) return ms;
    return this.#wrong(key, value, `a duration from ${minMs / 1000}s to ${maxMs / 1000}s, for example "5m"`);
  }

  /** A size such as "64MiB", or a number of bytes. */
  byteSize(key: string): number | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    const bytes = typeof value === 'string' || typeof value === 'number' ? parseByteSize(String(value)) : undefined;
    return bytes ?? this.#wrong(key, value, 'a size in bytes, for example 1048576 or "64MiB"');
  }

  /** A point in time with zone, in milliseconds since the epoch. */
  instant(key: string): number | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (value instanceof TomlDate && value.isDateTime() && !value.isLocal()) return value.getTime();
    return this.#wrong(key, value, 'a date and time with zone, for example 2030-01-31T12:00:00Z');
  }

  /** A list of strings; undefined if absent. Wrong elements are noted one by one and left out. */
  strings(key: string, pattern?: RegExp, form?: string): readonly string[] | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) return this.#wrong(key, value, 'a list of strings');
    return value.filter((item: unknown, position): item is string => {
      const right = typeof item === 'string' && (pattern === undefined || pattern.test(item));
      if (!right) this.#wrong(`${key}[${position}]`, item, form ?? 'a string', key);
      return right;
    });
  }

  requiredStrings(key: string, pattern?: RegExp, form?: string): readonly string[] | undefined {
    if (!this.has(key)) return this.#absent(key, 'a list of strings');
    return this.strings(key, pattern, form);
  }

  /** A table whose keys are free and whose values are strings. */
  stringMap(key: string): Readonly<Record<string, string>> | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (!isTable(value)) return this.#wrong(key, value, 'a table of strings');
    const map: Record<string, string> = {};
    for (const [name, item] of Object.entries(value)) {
      if (typeof item === 'string') Object.defineProperty(map, name, { value: item, enumerable: true });
      else this.#wrong(`${key}.${name}`, item, 'a string', key);
    }
    return map;
  }

  /** A sub-table; an empty one if absent. */
  table(key: string): TomlTable {
    const value = this.#take(key);
    if (value !== undefined && !isTable(value)) this.#wrong(key, value, `a table [${this.#pathOf(key)}]`);
    return this.#child(key, isTable(value) ? value : {});
  }

  /** An array of tables; empty if absent. */
  tables(key: string): readonly TomlTable[] {
    const value = this.#take(key);
    if (value === undefined) return [];
    if (!Array.isArray(value) || !value.every(isTable)) {
      this.#wrong(key, value, `tables, each headed [[${this.#pathOf(key).replaceAll(/\[\d+\]/g, '')}]]`);
      return [];
    }
    return value.map((item, position) => this.#child(`${key}[${position}]`, item));
  }

  /** Notes every key, here and below, that no getter asked for. */
  finish(): void {
    for (const key of Object.keys(this.#values)) {
      if (!this.#known.has(key)) this.fail(key, `unknown key; known here: ${[...this.#known].toSorted().join(', ')}`);
    }
    for (const child of this.#children) child.finish();
  }

  #child(key: string, values: Readonly<Record<string, unknown>>): TomlTable {
    const child = new TomlTable(values, this.#pathOf(key), this.#findings);
    this.#children.push(child);
    return child;
  }

  #pathOf(key: string): string {
    if (key === '') return this.path;
    return this.path === '' ? key : `${this.path}.${key}`;
  }

  #take(key: string): unknown {
    this.#known.add(key);
    return this.has(key) ? this.#values[key] : undefined;
  }

  #absent(key: string, form: string): undefined {
    this.#known.add(key);
    return this.fail(key, `missing; must be ${form}`);
  }

  #wrong(field: string, value: unknown, form: string, lineOf = field): undefined {
    const shown = JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? String(item) : item));
    const line = this.#findings.lines().get(this.#pathOf(lineOf)) ?? this.#findings.lines().get(this.path);
    const where = line === undefined ? '' : ` (line ${line})`;
    this.#findings.violations.push({
      field: this.#pathOf(field),
      description: `got ${(shown ?? String(value)).slice(0, 200)}; must be ${form}${where}`,
    });
    return undefined;
  }
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

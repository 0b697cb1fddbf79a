// The kinds of values a setting may have: how each is read from text (flag, environment) and from TOML, what is
// allowed, and how it is written back. A kind knows nothing of keys and sources; those are added by resolve.ts.
import { formatByteSize, parseByteSize } from '../byte-size.ts';
import { formatDuration, parseDuration } from '../clock.ts';

/** A value, or that there is none. What would be right stands in `ValueType.allowed`. */
export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false };

const WRONG = { ok: false } as const;

/** One kind of value. */
export interface ValueType<T> {
  /** "duration": for people. */
  readonly name: string;
  /** "DURATION": for the usage line. */
  readonly placeholder: string;
  /** What is allowed, as a phrase after "allowed:". */
  readonly allowed: string;
  /** True if a flag may be given several times. */
  readonly repeatable: boolean;
  /** True if a TOML table is a value of this kind and not a group of keys. */
  readonly table: boolean;
  /** From the texts of one source; one text unless repeatable. */
  fromText(texts: readonly string[]): Parsed<T>;
  fromToml(value: unknown): Parsed<T>;
  /** As a TOML literal; `fromToml` of it gives the same value again. */
  toToml(value: T): string;
}

/** Bounds of a number, both included. */
export interface Range {
  readonly min: number;
  readonly max: number;
}

/** How a kind that is written as one word or number is read and written. */
export interface Scalar<T> {
  readonly name: string;
  readonly placeholder: string;
  readonly allowed: string;
  /** Undefined if the text is no such value. */
  readonly text: (text: string) => T | undefined;
  /** For TOML values other than strings, which go through `text`. */
  readonly toml?: (value: unknown) => T | undefined;
  /** As a TOML literal. */
  readonly write: (value: T) => string;
}

/** A kind of its own. */
export function scalar<T>(kind: Scalar<T>): ValueType<T> {
  const parsed = (value: T | undefined): Parsed<T> => (value === undefined ? WRONG : { ok: true, value });
  return {
    name: kind.name,
    placeholder: kind.placeholder,
    allowed: kind.allowed,
    repeatable: false,
    table: false,
    fromText: (texts) => (texts.length === 1 ? parsed(kind.text(texts[0]!)) : WRONG),
    fromToml: (value) => {
      const own = kind.toml?.(value);
      return parsed(own ?? (typeof value === 'string' ? kind.text(value) : undefined));
    },
    toToml: kind.write,
  };
}

function within(range: Range, value: number | undefined): number | undefined {
  return value !== undefined && value >= range.min && value <= range.max ? value : undefined;
}

function decimal(text: string): number | undefined {
  return /^-?\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : undefined;
}

const quoted = (text: string): string => JSON.stringify(text);

/** Free text. `pattern` must match all of it and `allowed` say so in words; without them anything but the empty text. */
export function string(
  options: { readonly pattern?: RegExp; readonly allowed?: string; readonly placeholder?: string } = {},
): ValueType<string> {
  const pattern = options.pattern ?? /^.+$/s;
  return scalar({
    name: 'text',
    placeholder: options.placeholder ?? 'TEXT',
    allowed: options.allowed ?? 'any text that is not empty',
    text: (text) => (pattern.test(text) ? text : undefined),
    write: quoted,
  });
}

/** A path of the file system; taken as it is. */
export function path(): ValueType<string> {
  return { ...string({ pattern: /^[^\0]+$/, allowed: 'a path', placeholder: 'PATH' }), name: 'path' };
}

/** A URL with one of these schemes, without a trailing slash. `aliases` maps other schemes to them ("wss" to "https"). */
export function url(schemes: readonly string[], aliases: Readonly<Record<string, string>> = {}): ValueType<string> {
  return scalar({
    name: 'URL',
    placeholder: 'URL',
    allowed: `a URL that starts with ${schemes.map((scheme) => `${scheme}://`).join(' or ')}`,
    text: (text) => {
      const match = /^([a-z][a-z0-9+]*):\/\/(.+)$/i.exec(text);
      const named = match?.[1]?.toLowerCase() ?? '';
      const scheme = Object.hasOwn(aliases, named) ? aliases[named]! : named;
      const whole = `${scheme}://${match?.[2]}`;
      return schemes.includes(scheme) && URL.canParse(whole) ? whole.replace(/\/+$/, '') : undefined;
    },
    write: quoted,
  });
}

/** A whole number. */
export function int(range: Range): ValueType<number> {
  const whole = (value: number | undefined) => (Number.isSafeInteger(value) ? within(range, value) : undefined);
  return scalar({
    name: 'whole number',
    placeholder: 'N',
    allowed: `${range.min} to ${range.max}`,
    text: (text) => whole(decimal(text)),
    toml: (value) => (typeof value === 'number' ? whole(value) : undefined),
    write: String,
  });
}

/** A number. */
export function float(range: Range): ValueType<number> {
  return scalar({
    name: 'number',
    placeholder: 'NUMBER',
    allowed: `${range.min} to ${range.max}`,
    text: (text) => within(range, decimal(text)),
    toml: (value) => (typeof value === 'number' ? within(range, value) : undefined),
    write: String,
  });
}

const TRUTH: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['false', false],
  ['1', true],
  ['0', false],
  ['yes', true],
  ['no', false],
  ['on', true],
  ['off', false],
]);

/** True or false; as a flag it may stand alone, which means true. */
export function bool(): ValueType<boolean> {
  return scalar({
    name: 'switch',
    placeholder: 'true|false',
    allowed: 'true or false',
    text: (text) => TRUTH.get(text.toLowerCase()),
    toml: (value) => (typeof value === 'boolean' ? value : undefined),
    write: String,
  });
}

/** A time span in milliseconds; a bare number is seconds. Bounds in milliseconds. */
export function duration(range: Range): ValueType<number> {
  return scalar({
    name: 'duration',
    placeholder: 'DURATION',
    allowed: `${formatDuration(range.min)} to ${formatDuration(range.max)}, like "90s", "5m" or "1h30m"`,
    text: (text) => within(range, parseDuration(text)),
    toml: (value) => (typeof value === 'number' && value >= 0 ? within(range, value * 1000) : undefined),
    write: (ms) => quoted(ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`),
  });
}

/** A size in bytes. */
export function bytes(range: Range): ValueType<number> {
  return scalar({
    name: 'size',
    placeholder: 'SIZE',
    allowed: `${formatByteSize(range.min)} to ${formatByteSize(range.max)}, like "256MiB"`,
    text: (text) => within(range, parseByteSize(text)),
    toml: (value) => (Number.isSafeInteger(value) ? within(range, value as number) : undefined),
    // The short form rounds; it is used where it says the same.
    write: (size) => (parseByteSize(formatByteSize(size)) === size ? quoted(formatByteSize(size)) : String(size)),
  });
}

/** One of these words. */
export function oneOf<const W extends string>(words: readonly W[]): ValueType<W> {
  return scalar({
    name: 'choice',
    placeholder: words.join('|'),
    allowed: words.join(', '),
    text: (text) => words.find((word) => word === text),
    write: quoted,
  });
}

/** Several values of one kind: a repeated flag, commas in the environment, an array in TOML. */
export function list<T>(item: ValueType<T>): ValueType<readonly T[]> {
  const all = (parts: readonly Parsed<T>[]): Parsed<readonly T[]> => {
    const values = parts.flatMap((part) => (part.ok ? [part.value] : []));
    return values.length === parts.length ? { ok: true, value: Object.freeze(values) } : WRONG;
  };
  return {
    name: `list of ${item.name}`,
    placeholder: item.placeholder,
    allowed: `a list; each item: ${item.allowed}`,
    repeatable: true,
    table: false,
    fromText: (texts) => all(splitCommas(texts).map((text) => item.fromText([text]))),
    fromToml: (value) => (Array.isArray(value) ? all(value.map((part: unknown) => item.fromToml(part))) : WRONG),
    toToml: (values) => `[${values.map((value) => item.toToml(value)).join(', ')}]`,
  };
}

/** Names with values: "a=b" as repeated flag, commas in the environment, a table or an array of "a=b" in TOML. */
export function map(pattern: RegExp, allowed: string): ValueType<Readonly<Record<string, string>>> {
  const fromText = (texts: readonly string[]): Parsed<Readonly<Record<string, string>>> => {
    const entries = splitCommas(texts).map((text) => text.split(/=(.*)/s, 2));
    if (!entries.every(([name, value]) => value !== undefined && pattern.test(`${name}=${value}`))) return WRONG;
    return { ok: true, value: Object.freeze(Object.fromEntries(entries) as Record<string, string>) };
  };
  return {
    name: 'map',
    placeholder: 'NAME=VALUE',
    allowed,
    repeatable: true,
    table: true,
    fromText,
    fromToml: (value) => {
      if (Array.isArray(value)) return value.every((part) => typeof part === 'string') ? fromText(value) : WRONG;
      if (typeof value !== 'object' || value === null) return WRONG;
      const entries = Object.entries(value);
      const good = entries.every(([name, text]) => typeof text === 'string' && pattern.test(`${name}=${text}`));
      return good ? { ok: true, value: Object.freeze(Object.fromEntries(entries) as Record<string, string>) } : WRONG;
    },
    toToml: (value) => {
      const pairs = Object.entries(value).map(([name, text]) => `${quoted(name)} = ${quoted(text)}`);
      return pairs.length === 0 ? '{}' : `{ ${pairs.join(', ')} }`;
    },
  };
}

function splitCommas(texts: readonly string[]): string[] {
  return texts
    .flatMap((text) => text.split(','))
    .map((text) => text.trim())
    .filter((text) => text !== '');
}

// One table says everything about a program's settings: from it come parsing, --help, the reference page and the
// example file. Pure: sources are handed in as text, secret files through a function. Nothing here knows a flag parser,
// the file system or the process. Wrong input never throws; resolve.ts gives a list of what is wrong.
import { Secret } from './secret.ts';
import { string, type ValueType } from './value-type.ts';

/** One setting of type T. Made by `setting` or `secret`. */
export interface Setting<T> {
  readonly kind: 'setting';
  /** Dotted path in the TOML file. */
  readonly key: string;
  /** Long flag with its dashes. */
  readonly flag: string;
  /** Environment variables, the first one being ours. */
  readonly env: readonly string[];
  readonly type: ValueType<T>;
  readonly default: T | undefined;
  /** Shown instead of the default where that differs from host to host. */
  readonly defaultText: string | undefined;
  readonly example: string | undefined;
  readonly description: string;
  readonly group: string;
  /** Set for secrets: the same value can be read from a file named by KEY_file, FLAG-file or ENV_FILE. */
  readonly secret: boolean;
  /** True if a program that runs takes over another value when it reads its settings anew. */
  readonly live: boolean;
}

/** What to say about a setting beside its type. Flag and environment names follow from the key unless given. */
export interface SettingOptions {
  readonly key: string;
  readonly group: string;
  readonly description: string;
  readonly flag?: string;
  /** Our environment variable, where the one made from the key means something else to another program of ours. */
  readonly env?: string;
  /** Further environment variables that are understood, for people who come from other systems. */
  readonly envAliases?: readonly string[];
  readonly defaultText?: string;
  /** TOML literal for the example file, where there is no default. */
  readonly example?: string;
  /** A program that runs takes over another value when it reads its settings anew; otherwise the next start does. */
  readonly live?: boolean;
}

/** A setting with a default has a value always; one without may be undefined. */
export function setting<T>(type: ValueType<T>, options: SettingOptions & { readonly default: NoInfer<T> }): Setting<T>;
export function setting<T>(type: ValueType<T>, options: SettingOptions): Setting<T | undefined>;
export function setting<T>(type: ValueType<T>, options: SettingOptions & { readonly default?: T }): Setting<T> {
  const words = options.key.replaceAll('.', '_');
  return {
    kind: 'setting',
    key: options.key,
    flag: options.flag ?? `--${words.replaceAll('_', '-')}`,
    env: [options.env ?? `LONGLINE_${words.toUpperCase()}`, ...(options.envAliases ?? [])],
    type,
    default: options.default,
    defaultText: options.defaultText,
    example: options.example,
    description: options.description,
    group: options.group,
    secret: false,
    live: options.live ?? false,
  };
}

/** A secret: never inline in the TOML file, never printed. `pattern` must match all of it, `allowed` say so in words. */
export function secret(
  options: SettingOptions & { readonly pattern?: RegExp; readonly allowed?: string },
): Setting<Secret | undefined> {
  const text = string({ pattern: options.pattern ?? /^\S+$/, allowed: options.allowed ?? 'text without blanks' });
  const type: ValueType<Secret | undefined> = {
    ...text,
    name: 'secret',
    placeholder: 'SECRET',
    fromText: (texts) => {
      const parsed = text.fromText(texts);
      return parsed.ok ? { ok: true, value: new Secret(parsed.value) } : parsed;
    },
    fromToml: () => ({ ok: false }),
    toToml: () => '"[redacted]"',
  };
  return { ...setting(type, options), secret: true };
}

/** Settings by property name, nested as the resolved value is to be. */
export interface SettingTable {
  readonly [name: string]: Setting<never> | Setting<unknown> | SettingTable;
}

/** The value that a table resolves to. */
export type Resolved<T> = {
  readonly [K in keyof T]: T[K] extends Setting<infer V> ? V : Resolved<T[K]>;
};

/** A relation between settings that does not hold. */
export interface ConfigConflict {
  readonly key: string;
  readonly description: string;
}

/** A program's settings as a whole. */
export interface ConfigSchema<T> {
  /** "agent": for titles. */
  readonly name: string;
  readonly table: T;
  /** Relations between settings; called once each of them is right by itself. */
  readonly check: (config: Resolved<T>) => readonly ConfigConflict[];
}

/** Makes a schema, and refuses a table in which two settings share a key, flag or variable. */
export function defineConfig<const T extends SettingTable>(
  name: string,
  table: T,
  check: (config: Resolved<T>) => readonly ConfigConflict[] = () => [],
): ConfigSchema<T> {
  const seen = new Set<string>();
  for (const { setting: entry } of settingsOf(table)) {
    for (const one of [entry.key, entry.flag, ...entry.env, ...(entry.secret ? Object.values(fileNames(entry)) : [])]) {
      if (seen.has(one)) throw new RangeError(`two settings of ${name} are called ${one}`);
      seen.add(one);
    }
  }
  return { name, table, check };
}

/** The names under which the file of a secret is given. */
export function fileNames(entry: Setting<unknown>): {
  readonly key: string;
  readonly flag: string;
  readonly env: string;
} {
  return { key: `${entry.key}_file`, flag: `${entry.flag}-file`, env: `${entry.env[0]}_FILE` };
}

/** A setting and where its value goes. */
export interface PlacedSetting {
  readonly path: readonly string[];
  readonly setting: Setting<unknown>;
}

/** All settings of a table in the order they were written. */
export function settingsOf(table: SettingTable, path: readonly string[] = []): readonly PlacedSetting[] {
  return Object.entries(table).flatMap(([name, entry]) =>
    isSetting(entry) ? [{ path: [...path, name], setting: entry }] : settingsOf(entry as SettingTable, [...path, name]),
  );
}

function isSetting(entry: SettingTable[string]): entry is Setting<unknown> {
  return (entry as { readonly kind?: unknown }).kind === 'setting';
}

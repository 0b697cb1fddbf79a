// Flags over environment over file over defaults: one frozen value, or everything that is wrong at once.
import { parse, TomlError } from 'smol-toml';
import { type FieldViolation, invalid, type LonglineError } from '../errors.ts';
import { type ConfigSchema, fileNames, type Resolved, type Setting, type SettingTable, settingsOf } from './setting.ts';
import { suggest } from './suggestion.ts';

/** Where values come from. All text; nothing is read here. */
export interface ConfigSources {
  /** By long flag with its dashes; every time it was given. A switch that stands alone is "true". */
  readonly flags?: ReadonlyMap<string, readonly string[]>;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** The TOML file; `path` is for messages. */
  readonly file?: { readonly path: string; readonly text: string } | undefined;
  /** Reads the file of a secret; throws with a message for people if it can't or if others may read it. */
  readonly readSecret?: (path: string) => string;
}

/** One thing that is wrong. `value` is left out of it for secrets. */
export interface ConfigProblem {
  readonly key: string;
  /** "flag --heartbeat", "environment LONGLINE_HEARTBEAT", "file /etc/longline/agent.toml". */
  readonly source: string;
  readonly description: string;
}

/** What resolving gives. */
export type ConfigResult<T> =
  | {
      readonly ok: true;
      readonly config: Resolved<T>;
      /** Source of each value by key; "default" for the rest. */
      readonly origins: ReadonlyMap<string, string>;
      /** Environment variables with our prefix that look like a slip of one of ours. */
      readonly warnings: readonly string[];
    }
  | { readonly ok: false; readonly problems: readonly ConfigProblem[] };

/** Resolves a table against its sources. */
export function resolveConfig<T extends SettingTable>(
  schema: ConfigSchema<T>,
  sources: ConfigSources,
): ConfigResult<T> {
  const problems: ConfigProblem[] = [];
  const placed = settingsOf(schema.table);
  const settings = placed.map((entry) => entry.setting);
  const file = readFile(settings, sources.file, problems);
  problems.push(...unknownFlags(settings, sources.flags));
  const values: Record<string, unknown> = {};
  const origins = new Map<string, string>();
  for (const { path, setting } of placed) {
    const found = findValue(setting, sources, file, problems);
    if (found !== undefined) origins.set(setting.key, found.source);
    place(values, path, found === undefined ? setting.default : found.value);
  }
  if (problems.length > 0) return { ok: false, problems };
  const config = freeze(values) as Resolved<T>;
  for (const conflict of schema.check(config)) {
    const source = origins.get(conflict.key) ?? 'default';
    problems.push({ ...conflict, source });
  }
  if (problems.length > 0) return { ok: false, problems };
  return { ok: true, config, origins, warnings: misspelledVariables(settings, sources.env ?? {}) };
}

/** The problems as one error, a violation each. */
export function configError(problems: readonly ConfigProblem[]): LonglineError {
  return invalid(
    problems.map<FieldViolation>(({ key, source, description }) => ({
      field: key,
      description: `${description} (from ${source})`,
    })),
  );
}

interface Found {
  readonly value: unknown;
  readonly source: string;
}

interface RawValue {
  readonly source: string;
  readonly shown: string;
  readonly parse: () => { readonly ok: true; readonly value: unknown } | { readonly ok: false };
}

/** The first source that has the setting decides, right or wrong: a wrong flag is not covered up by a right file. */
function findValue(
  setting: Setting<unknown>,
  sources: ConfigSources,
  file: ReadonlyMap<string, unknown>,
  problems: ConfigProblem[],
): Found | undefined {
  const raw = rawFlag(setting, sources) ?? rawEnv(setting, sources) ?? rawFile(setting, sources, file);
  const secretFile = setting.secret ? rawSecretFile(setting, sources, file) : undefined;
  if (raw === undefined && secretFile === undefined) return undefined;
  if (secretFile !== undefined && (raw === undefined || rank(secretFile.source) < rank(raw.source))) {
    return readSecretFile(setting, secretFile, sources, problems);
  }
  const parsed = raw!.parse();
  if (parsed.ok) return { value: parsed.value, source: raw!.source };
  const shown = setting.secret ? 'the value given' : raw!.shown;
  const wrong = `${shown} is not a ${setting.type.name} that is allowed; allowed: ${setting.type.allowed}`;
  const inline = setting.secret && raw!.source.startsWith('file ');
  problems.push({
    key: setting.key,
    source: raw!.source,
    description: inline
      ? `a secret does not belong into the file; give ${fileNames(setting).key} or ${setting.env[0]}`
      : wrong,
  });
  return undefined;
}

function rank(source: string): number {
  return ['flag ', 'environment ', 'file '].findIndex((prefix) => source.startsWith(prefix));
}

function rawFlag(setting: Setting<unknown>, { flags }: ConfigSources): RawValue | undefined {
  const given = flags?.get(setting.flag);
  if (given === undefined) return undefined;
  const texts = setting.type.repeatable ? given : given.slice(-1);
  return rawText(setting, texts, `flag ${setting.flag}`);
}

/** An empty variable counts as absent: that is how compose files and units unset one. */
function rawEnv(setting: Setting<unknown>, { env }: ConfigSources): RawValue | undefined {
  const name = setting.env.find((one) => (env?.[one] ?? '') !== '');
  return name === undefined ? undefined : rawText(setting, [env![name]!], `environment ${name}`);
}

function rawText(setting: Setting<unknown>, texts: readonly string[], source: string): RawValue {
  return { source, shown: JSON.stringify(texts.join(',')), parse: () => setting.type.fromText(texts) };
}

function rawFile(
  setting: Setting<unknown>,
  { file }: ConfigSources,
  values: ReadonlyMap<string, unknown>,
): RawValue | undefined {
  if (!values.has(setting.key)) return undefined;
  const value = values.get(setting.key);
  const shown = JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? String(item) : item));
  return { source: `file ${file!.path}`, shown, parse: () => setting.type.fromToml(value) };
}

function rawSecretFile(
  setting: Setting<unknown>,
  { flags, env, file }: ConfigSources,
  values: ReadonlyMap<string, unknown>,
): { readonly source: string; readonly path: unknown } | undefined {
  const names = fileNames(setting);
  const given = flags?.get(names.flag)?.at(-1);
  if (given !== undefined) return { source: `flag ${names.flag}`, path: given };
  if ((env?.[names.env] ?? '') !== '') return { source: `environment ${names.env}`, path: env![names.env] };
  return values.has(names.key) ? { source: `file ${file!.path}`, path: values.get(names.key) } : undefined;
}

function readSecretFile(
  setting: Setting<unknown>,
  from: { readonly source: string; readonly path: unknown },
  { readSecret }: ConfigSources,
  problems: ConfigProblem[],
): Found | undefined {
  const fail = (description: string): undefined => {
    problems.push({ key: fileNames(setting).key, source: from.source, description });
  };
  if (typeof from.path !== 'string' || from.path === '') return fail(`${JSON.stringify(from.path)} is not a path`);
  if (readSecret === undefined) return fail('files of secrets can not be read here');
  let text: string;
  try {
    text = readSecret(from.path).trim();
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
  const parsed = setting.type.fromText([text]);
  if (!parsed.ok) return fail(`what ${from.path} holds is not allowed; allowed: ${setting.type.allowed}`);
  return { value: parsed.value, source: `${from.source} (${from.path})` };
}

/** The file's values by dotted key; what isn't TOML or isn't known is a problem. */
function readFile(
  settings: readonly Setting<unknown>[],
  file: ConfigSources['file'],
  problems: ConfigProblem[],
): ReadonlyMap<string, unknown> {
  const values = new Map<string, unknown>();
  if (file === undefined) return values;
  const source = `file ${file.path}`;
  const known = new Map<string, boolean>();
  for (const setting of settings) {
    known.set(setting.key, setting.type.table);
    if (setting.secret) known.set(fileNames(setting).key, false);
  }
  const walk = (table: object, prefix: string): void => {
    for (const [name, value] of Object.entries(table)) {
      const key = prefix + name;
      const isTable = typeof value === 'object' && value !== null && Object.getPrototypeOf(value) !== Array.prototype;
      if (known.has(key) && (!isTable || known.get(key) === true)) values.set(key, value);
      else if (isTable && [...known.keys()].some((one) => one.startsWith(`${key}.`))) walk(value as object, `${key}.`);
      else
        problems.push({
          key,
          source,
          description: known.has(key) ? 'a value, not a table, belongs here' : unknownKey(key, known.keys()),
        });
    }
  };
  try {
    walk(parse(file.text), '');
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split('\n')[0]!.replace(/^Invalid TOML document: /, '');
    problems.push({ key: `line ${error.line}`, source, description: `not TOML: ${reason}, column ${error.column}` });
  }
  return values;
}

function unknownKey(key: string, known: Iterable<string>): string {
  const near = suggest(key, known);
  return `unknown key${near === undefined ? '' : `; did you mean ${near}?`}`;
}

function unknownFlags(settings: readonly Setting<unknown>[], flags: ConfigSources['flags']): ConfigProblem[] {
  const known = settings.flatMap((entry) => (entry.secret ? [entry.flag, fileNames(entry).flag] : [entry.flag]));
  return [...(flags?.keys() ?? [])]
    .filter((flag) => !known.includes(flag))
    .map((flag) => ({ key: flag, source: `flag ${flag}`, description: unknownKey(flag, known) }));
}

/**
 * Only a warning: other programs share the prefix, and Kubernetes puts LONGLINE_SERVICE_HOST and the like into every
 * pod beside a service of that name.
 */
function misspelledVariables(settings: readonly Setting<unknown>[], env: NonNullable<ConfigSources['env']>): string[] {
  const known = settings.flatMap((entry) => (entry.secret ? [...entry.env, fileNames(entry).env] : entry.env));
  return Object.keys(env)
    .filter((name) => name.startsWith('LONGLINE_') && !known.includes(name))
    .flatMap((name) => {
      const near = suggest(name, known);
      return near === undefined ? [] : [`environment variable ${name} is not known; did you mean ${near}?`];
    });
}

function place(target: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let at = target;
  for (const name of path.slice(0, -1)) {
    at[name] ??= {};
    at = at[name] as Record<string, unknown>;
  }
  at[path.at(-1)!] = value;
}

/** Freezes the plain objects that `place` made; values were made frozen or are immutable. */
function freeze(value: Record<string, unknown>): object {
  for (const inner of Object.values(value)) {
    if (typeof inner === 'object' && inner !== null && Object.getPrototypeOf(inner) === Object.prototype) {
      freeze(inner as Record<string, unknown>);
    }
  }
  return Object.freeze(value);
}

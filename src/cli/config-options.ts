// Settings tables on the command line: their flags for the parser, and the sources they are resolved from.
import { readFileSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { flagsOf } from '../core/config/reference.ts';
import { configError, resolveConfig } from '../core/config/resolve.ts';
import type { ConfigSchema, Resolved, SettingTable } from '../core/config/setting.ts';
import { LonglineError } from '../core/errors.ts';
import type { CliIo } from './io.ts';

/** What a command needs to resolve its settings later. */
export interface ConfigOptions<T> {
  /** Reads file, flags and environment. Throws `invalid` with everything that is wrong; warnings go to standard error. */
  load(): Promise<{ readonly config: Resolved<T>; readonly origins: ReadonlyMap<string, string> }>;
}

/** Adds --config and the flags of a table to a command, in the table's groups. */
export function addConfigOptions<T extends SettingTable>(
  command: Command,
  schema: ConfigSchema<T>,
  io: CliIo,
): ConfigOptions<T> {
  const defaultPath = `/etc/longline/${schema.name}.toml`;
  const variable = `LONGLINE_${schema.name.toUpperCase()}_CONFIG`;
  const flags = new Map<string, string[]>();
  let configPath: string | undefined;
  command.addOption(
    new Option('--config <path>', `file of settings [default ${defaultPath} if it exists, env ${variable}]`)
      .helpGroup('Files:')
      .argParser((path) => {
        configPath = path;
        return path;
      }),
  );
  for (const { flag, placeholder, description, group } of flagsOf(schema)) {
    const usage = placeholder === undefined ? `${flag} [true|false]` : `${flag} <${placeholder.toLowerCase()}>`;
    const option = new Option(usage, description).helpGroup(`${group}:`).argParser((text) => {
      flags.set(flag, [...(flags.get(flag) ?? []), text]);
      return text;
    });
    command.addOption(placeholder === undefined ? option.preset('true') : option);
  }
  return {
    load: async () => {
      const named = configPath ?? (io.env[variable] || undefined);
      const text = await readConfigFile(named ?? defaultPath, named !== undefined);
      const file = text === undefined ? undefined : { path: named ?? defaultPath, text };
      const result = resolveConfig(schema, { flags, env: io.env, file, readSecret });
      if (!result.ok) throw configError(result.problems);
      for (const warning of result.warnings) await io.note(`warning: ${warning}`);
      return result;
    },
  };
}

async function readConfigFile(path: string, required: boolean): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (!required && (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new LonglineError('invalid', `--config: ${path} can't be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** The text of a file that only its owner may read. */
function readSecret(path: string): string {
  const { mode } = statSync(path);
  if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
    const shown = (mode & 0o777).toString(8).padStart(4, '0');
    throw new LonglineError(
      'policy',
      `${path} has mode ${shown}, which lets others read the secret; run: chmod 600 ${path}`,
    );
  }
  return readFileSync(path, 'utf8');
}

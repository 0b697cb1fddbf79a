// What a table says about itself: flags for --help, the reference page, the example file, a dump without secrets.
import { type ConfigSchema, fileNames, type Resolved, type Setting, type SettingTable, settingsOf } from './setting.ts';

/** A table and whose it is; any ConfigSchema is one. */
export interface NamedTable {
  readonly name: string;
  readonly table: SettingTable;
}

/** One flag as a command-line parser needs it. */
export interface FlagSpec {
  /** "--heartbeat". */
  readonly flag: string;
  /** Undefined for a switch that may stand alone. */
  readonly placeholder: string | undefined;
  readonly repeatable: boolean;
  readonly description: string;
  readonly group: string;
}

/** The flags of a table in order. */
export function flagsOf(program: NamedTable): readonly FlagSpec[] {
  return settingsOf(program.table).flatMap(({ setting }) => {
    const own: FlagSpec = {
      flag: setting.flag,
      placeholder: setting.type.name === 'switch' ? undefined : setting.type.placeholder,
      repeatable: setting.type.repeatable,
      description: `${setting.description} ${hints(setting)}`,
      group: setting.group,
    };
    if (!setting.secret) return [own];
    const names = fileNames(setting);
    const description = `File that holds it, readable by its owner only. [env ${names.env}]`;
    return [own, { ...own, flag: names.flag, placeholder: 'PATH', description }];
  });
}

function hints(setting: Setting<unknown>): string {
  const fallback = defaultText(setting);
  return `[${fallback === undefined ? '' : `default ${fallback}, `}env ${setting.env[0]}]`;
}

function defaultText(setting: Setting<unknown>): string | undefined {
  if (setting.defaultText !== undefined) return setting.defaultText;
  return setting.default === undefined ? undefined : setting.type.toToml(setting.default).replace(/^"(.*)"$/, '$1');
}

/** The reference page: one Markdown table for each group. */
export function referencePage(program: NamedTable): string {
  const lines = [
    `# Settings of \`longline ${program.name}\``,
    '',
    'Flags win over environment variables, those over the file (`--config`), that over defaults.',
    'A secret can also be given by the path of a file: add `-file` to its flag, `_FILE` to its variable, `_file` to its key.',
  ];
  for (const [group, settings] of byGroup(program)) {
    lines.push(
      '',
      `## ${group}`,
      '',
      '| key | flag | environment | value | default | holds at | meaning |',
      '|---|---|---|---|---|---|---|',
    );
    for (const setting of settings) {
      const cells = [
        `\`${setting.secret ? fileNames(setting).key : setting.key}\``,
        `\`${setting.flag}\``,
        setting.env.map((name) => `\`${name}\``).join(', '),
        `${setting.type.name}: ${setting.type.allowed}`,
        defaultText(setting) === undefined ? '' : `\`${defaultText(setting)}\``,
        setting.live ? 'reload' : 'start',
        setting.description,
      ];
      lines.push(`| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** An example file: every key, commented out at its default, so that the file as it is changes nothing. */
export function exampleFile(program: NamedTable): string {
  const lines = [`# Settings of \`longline ${program.name}\`. Every line that is commented out shows the default.`];
  const sections = new Map<string, string[]>([['', []]]);
  for (const { setting } of settingsOf(program.table)) {
    const key = setting.secret ? fileNames(setting).key : setting.key;
    const dot = key.lastIndexOf('.');
    const section = dot < 0 ? '' : key.slice(0, dot);
    const body = sections.get(section) ?? [];
    sections.set(section, body);
    body.push('', ...wrap(setting.description, 100).map((line) => `# ${line}`));
    body.push(`# ${setting.secret ? 'Path of a file that holds it' : `Allowed: ${setting.type.allowed}`}.`);
    body.push(`# ${key.slice(dot + 1)} = ${exampleValue(setting)}`);
  }
  for (const [section, body] of sections) {
    if (section !== '') lines.push('', `[${section}]`);
    lines.push(...body);
  }
  return `${lines.join('\n')}\n`;
}

function exampleValue(setting: Setting<unknown>): string {
  if (setting.secret) return `"/etc/longline/${setting.key.split('.').at(-1)}"`;
  if (setting.default !== undefined) return setting.type.toToml(setting.default);
  return setting.example ?? `"${setting.type.placeholder}"`;
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** One line of a dump. */
export interface DumpedSetting {
  readonly key: string;
  /** As TOML; secrets are "[redacted]"; empty if unset. */
  readonly value: string;
  readonly source: string;
}

/** The resolved settings with their sources, fit to be shown: secrets are redacted. */
export function dumpConfig<T extends SettingTable>(
  schema: ConfigSchema<T>,
  config: Resolved<T>,
  origins: ReadonlyMap<string, string>,
): readonly DumpedSetting[] {
  return settingsOf(schema.table).map(({ path, setting }) => {
    let value: unknown = config;
    for (const name of path) value = (value as Record<string, unknown>)[name];
    return {
      key: setting.key,
      value: value === undefined ? '' : setting.type.toToml(value),
      source: origins.get(setting.key) ?? 'default',
    };
  });
}

function byGroup(program: NamedTable): Map<string, Setting<unknown>[]> {
  return Map.groupBy(
    settingsOf(program.table).map((entry) => entry.setting),
    (setting) => setting.group,
  );
}

// `longline config`: what can be set, an example file, and what would be in force.
import { Argument, type Command } from 'commander';
import {
  type DumpedSetting,
  dumpConfig,
  exampleFile,
  flagsOf,
  type NamedTable,
  referencePage,
} from '../../core/config/reference.ts';
import type { ConfigSchema, SettingTable } from '../../core/config/setting.ts';
import { addConfigOptions } from '../config-options.ts';
import type { CliIo, TableColumn } from '../io.ts';
import { agentConfig } from './agent.ts';
import { controllerConfig } from './controller.ts';

const PROGRAMS: Readonly<Record<string, NamedTable>> = { agent: agentConfig, controller: controllerConfig };

/** Adds `config`. */
export function registerConfigCommands(program: Command, io: CliIo): void {
  const config = program
    .command('config')
    .description('Reference and example of all settings, and a check of what is set.')
    .addHelpText(
      'after',
      '\nExamples:\n  longline config example agent > agent.toml\n  longline config check agent --config agent.toml',
    );
  const which = () => new Argument('<program>', 'whose settings').choices(Object.keys(PROGRAMS));
  config
    .command('reference')
    .description('Print every setting as a Markdown page; with --json as an array of flags.')
    .addArgument(which())
    .action(async (name: string) => {
      if (io.json) await io.list(flagsOf(PROGRAMS[name]!), [], '');
      else await io.stdout.write(referencePage(PROGRAMS[name]!));
    });
  config
    .command('example')
    .description('Print an example file: every key, commented out at its default.')
    .addArgument(which())
    .action(async (name: string) => await io.stdout.write(exampleFile(PROGRAMS[name]!)));
  const check = config
    .command('check')
    .description('Resolve settings as a start would, and show each with its source.');
  registerCheck(check, agentConfig, io);
  registerCheck(check, controllerConfig, io);
}

function registerCheck<T extends SettingTable>(check: Command, schema: ConfigSchema<T>, io: CliIo): void {
  const command = check
    .command(schema.name)
    .description(`Check the settings of \`longline ${schema.name}\`; secrets are not shown.`);
  const options = addConfigOptions(command, schema, io);
  command.action(async () => {
    const { config, origins } = await options.load();
    await io.list(dumpConfig(schema, config, origins), DUMP_COLUMNS, '');
  });
}

const DUMP_COLUMNS: readonly TableColumn<DumpedSetting>[] = [
  { heading: 'key', value: (row) => row.key },
  { heading: 'value', value: (row) => row.value },
  { heading: 'source', value: (row) => row.source },
];

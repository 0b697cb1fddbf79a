// `longline version`.
import type { Command } from 'commander';
import manifest from '../../../package.json' with { type: 'json' };
import type { CliIo } from '../io.ts';

/** Adds `version`. */
export function registerVersionCommands(program: Command, io: CliIo): void {
  program
    .command('version')
    .description('Show the versions of longline and of the runtime it runs on.')
    .addHelpText('after', '\nExample:\n  longline version --json')
    .action(async () => {
      const { version } = manifest;
      const { node, openssl } = process.versions;
      const platform = `${process.platform}/${process.arch}`;
      await io.result({ version, node, openssl, platform }, () => `longline ${version} (Node ${node}, ${platform})`);
    });
}

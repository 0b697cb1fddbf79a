// `longline agent log-level`: which lines the agent on this host logs, while it runs.
import type { Command } from 'commander';
import { LocalService } from '#gen/longline/local/v1/local_pb.js';
import { globalOptions } from '../global-options.ts';
import type { CliIo } from '../io.ts';
import { openLocal } from './status.ts';

interface LogLevelOptions {
  readonly socket?: string;
  readonly part?: string;
}

/** Adds `agent log-level`. */
export function registerLogLevel(agent: Command, io: CliIo): void {
  agent
    .command('log-level <level>')
    .description(
      'Change what the running agent logs, until it reads its settings anew or ends: debug, info, warn, error.',
    )
    .option('--socket <path>', 'unix socket of the agent (env LONGLINE_LOCAL_SOCKET)')
    .option('--part <name>', 'only lines with this "part" or "capability"; level "default" ends that')
    .addHelpText('after', '\nExamples:\n  longline agent log-level debug\n  longline agent log-level debug --part link')
    .action(async (level: string, options: LogLevelOptions, command: Command) => {
      // The data folder is an option of `agent` itself.
      const { dataDir } = command.optsWithGlobals<{ dataDir?: string }>();
      const place = { ...options, ...(dataDir === undefined ? {} : { dataDir }) };
      using client = openLocal(io, place, globalOptions(command, io).timeoutMs);
      const asked = { level: level === 'default' ? '' : level, part: options.part ?? '' };
      const { level: whole, parts } = await client.call(LocalService.method.setLogLevel, asked);
      await io.result({ level: whole, parts }, () => {
        const others = Object.entries(parts).map(([part, one]) => `, ${part} ${one}`);
        return `level ${whole}${others.join('')}`;
      });
    });
}

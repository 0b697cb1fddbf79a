// The `explain` subcommands: ask the agent of this host whether something would be started there, and which rule forbids
// it. Nothing is started.
import type { Command } from 'commander';
import type { PolicyDecision } from '#gen/longline/local/v1/local_pb.js';
import { globalOptions } from '../global-options.ts';
import { type CliIo, EXIT } from '../io.ts';
import type { LocalClient } from '../local-client.ts';
import { plainText } from '../table.ts';
import { openLocal } from './status.ts';

/** Options of every `explain`. */
export interface ExplainOptions {
  readonly keyId: string;
  readonly controllerId: string;
  readonly socket?: string;
  readonly dataDir?: string;
}

/** What the agent answered; `effective` is JSON, null for a spec that isn't valid. */
export interface Explained {
  readonly allowed: boolean;
  readonly decisions: readonly PolicyDecision[];
  readonly effective: unknown;
}

/** Adds `explain` to a group; `ask` makes the spec of the options and sends it. */
export function registerExplain<Options extends ExplainOptions>(
  group: Command,
  io: CliIo,
  what: string,
  ask: (options: Options, argv: readonly string[]) => Promise<(client: LocalClient) => Promise<Explained>>,
): Command {
  return group
    .command('explain [command...]')
    .description(`Ask the agent of this host whether ${what} here; exits with 4 if not.`)
    .passThroughOptions()
    .option('--key-id <id>', 'key that would sign it; unsigned if left out', '')
    .option('--controller-id <id>', 'controller it would come from', '')
    .option('--socket <path>', 'unix socket of the agent (env LONGLINE_LOCAL_SOCKET)')
    .option('--data-dir <path>', 'data folder of the agent, to find its socket (env LONGLINE_DATA_DIR)')
    .action(async (argv: string[], options: Options, command: Command) => {
      // Wrong options are told before anybody is asked.
      const send = await ask(options, argv);
      using client = openLocal(io, options, globalOptions(command, io).timeoutMs);
      const { allowed, decisions, effective } = await send(client);
      const rules = decisions.map((one) => ({ rule: one.rule, allowed: one.allowed, explanation: one.explanation }));
      await io.result({ allowed, decisions: rules, effective }, () =>
        decisions.map((decision) => lineOf(io, decision)).join('\n'),
      );
      if (!allowed) io.exitCode = EXIT.denied;
    });
}

function lineOf(io: CliIo, { rule, allowed, explanation }: PolicyDecision): string {
  const verdict = allowed ? io.paint('green', 'allow') : io.paint('red', 'deny ');
  return `${verdict}  ${plainText(`${rule}: ${explanation}`)}`;
}

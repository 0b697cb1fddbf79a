// `longline program unload`: takes programs of an agent away.
import type { Command } from 'commander';
import { withFleet } from '../fleet-connection.ts';
import type { CliIo } from '../io.ts';
import { plainText } from '../table.ts';
import { addWaitOptions, type WaitOptions } from '../waiting.ts';
import { waitUntilGone } from './waiting.ts';

/** Adds `unload`. */
export function registerUnload(group: Command, io: CliIo): void {
  const unload = group
    .command('unload <name...>')
    .description('Detach and unload programs of an agent.')
    .requiredOption('--agent <id>', 'which agent');
  addWaitOptions(unload, 'the agent has unloaded them').action(
    async (names: string[], { agent: agentId, limit, wait }: WaitOptions & { agent: string }, command: Command) => {
      await withFleet(io, command, async (fleet) => {
        for (const name of names) await fleet.programs.deleteProgram({ agentId, name });
        if (wait) for (const name of names) await waitUntilGone(fleet, agentId, name, limit);
      });
      await io.result({ agent_id: agentId, unloaded: names, gone: wait === true }, () =>
        plainText(`${names.join(', ')} of ${agentId} ${wait ? 'unloaded' : 'being unloaded'}`),
      );
    },
  );
}

// `longline program rollback|rollbacks|release`: back to the revision before, what was rolled back, and letting it be loaded again.
import type { Command } from 'commander';
import type { FleetRollback } from '#gen/longline/fleet/v1/program_service_pb.js';
import type { ProgramRevision, ProgramRollback } from '#gen/longline/v1/program_pb.js';
import { ageOf } from '../age.ts';
import { withFleet } from '../fleet-connection.ts';
import { type CliIo, EXIT, toJson } from '../io.ts';
import { countValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { plainText, type TableColumn } from '../table.ts';
import { fleetRollbackView, rollbackView, triggerName } from './views.ts';

/** Adds `rollback`, `rollbacks` and `release`. */
export function registerRollback(group: Command, io: CliIo): void {
  registerRollBack(group, io);
  registerList(group, io);
  registerRelease(group, io);
}

function registerRollBack(group: Command, io: CliIo): void {
  group
    .command('rollback <name>')
    .description('Go back to the revision before, or unload the program if there is none.')
    .requiredOption('--agent <id>', 'which agent')
    .option('--reason <text>', 'why, for others to read', '')
    .option('--artifact <digest>', 'only if this is what runs', '')
    .addHelpText('after', '\nWhat is left is quarantined on that host until `longline program release`.')
    .action(async (name: string, options: { agent: string; artifact: string; reason: string }, command: Command) => {
      const { agent: agentId, artifact, reason } = options;
      const { rollback } = await withFleet(io, command, (fleet) =>
        fleet.programs.rollBackProgram({ agentId, name, reason, artifact }),
      );
      if (rollback?.error !== undefined) io.exitCode = EXIT.failed;
      await io.result({ agent_id: agentId, ...rollbackView(rollback!) }, () =>
        plainText(rollbackSummary(agentId, rollback!)),
      );
    });
}

/** What came of a rollback, on one line. */
export function rollbackSummary(agentId: string, { error, from, program, to }: ProgramRollback): string {
  if (error !== undefined) return `${agentId} ${program}: not rolled back: ${error.message}`;
  if (to === undefined) return `${agentId} ${program}: ${revisionText(from)} unloaded; there was none before it`;
  return `${agentId} ${program}: from ${revisionText(from)} back to ${revisionText(to)}`;
}

function revisionText(revision: ProgramRevision | undefined): string {
  return revision === undefined ? '-' : `${revision.version} (revision ${revision.number})`;
}

function registerList(group: Command, io: CliIo): void {
  group
    .command('rollbacks')
    .description('List rollbacks of a fleet, newest first.')
    .option('--agent <id>', 'only of this agent', '')
    .option('--name <name>', 'only of this program', '')
    .option('--limit <n>', 'most rollbacks; 0 for all', countValue(0, 1_000_000), 100)
    .action(async (options: { agent: string; name: string; limit: number }, command: Command) => {
      const rollbacks = await withFleet(io, command, (fleet) =>
        readPages(options.limit, async (pageToken, pageSize) => {
          const { agent: agentId, name } = options;
          const page = await fleet.programs.listRollbacks({ agentId, name, pageToken, pageSize });
          return { items: page.rollbacks, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(rollbacks.map(fleetRollbackView)));
      await io.list(rollbacks, columns(Date.now()), 'no rollbacks');
    });
}

function columns(nowMs: number): readonly TableColumn<FleetRollback>[] {
  return [
    { heading: 'agent', value: ({ agentId }) => agentId },
    { heading: 'program', value: ({ rollback }) => rollback?.program ?? '' },
    { heading: 'from', value: ({ rollback }) => rollback?.from?.version || '-' },
    { heading: 'to', value: ({ rollback }) => rollback?.to?.version || '(unloaded)' },
    { heading: 'trigger', value: ({ rollback }) => triggerName(rollback?.trigger ?? 0) },
    { heading: 'when', value: ({ rollback }) => ageOf(rollback?.time, nowMs) },
    { heading: 'why', value: ({ rollback }) => rollback?.error?.message || rollback?.reason || '-' },
  ];
}

function registerRelease(group: Command, io: CliIo): void {
  group
    .command('release [artifact]')
    .description('Let a quarantined artifact be loaded again on an agent, or all of them.')
    .requiredOption('--agent <id>', 'which agent')
    .action(async (artifact: string | undefined, { agent: agentId }: { agent: string }, command: Command) => {
      const { artifacts } = await withFleet(io, command, (fleet) =>
        fleet.programs.releaseQuarantine({ agentId, artifact: artifact ?? '' }),
      );
      await io.result({ agent_id: agentId, released: artifacts }, () =>
        artifacts.length === 0 ? `${agentId}: nothing is quarantined` : `${agentId}: released ${artifacts.join(', ')}`,
      );
    });
}

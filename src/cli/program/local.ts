// `longline program local …`: the programs of this host, asked of its agent over its socket. For when the controller can't be reached:
// a program may be why.
import { create } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { type Program, ProgramSchema } from '#gen/longline/fleet/v1/program_service_pb.js';
import { type ListProgramsResponse, LocalService } from '#gen/longline/local/v1/local_pb.js';
import { openLocal } from '../commands/status.ts';
import { globalOptions } from '../global-options.ts';
import { type CliIo, EXIT, toJson } from '../io.ts';
import type { LocalClient } from '../local-client.ts';
import { plainText } from '../table.ts';
import { programColumns } from './description.ts';
import { rollbackSummary } from './rollback.ts';
import { figuresView, programStatusView, rollbackView } from './views.ts';

interface SocketOptions {
  readonly socket?: string;
  readonly dataDir?: string;
}

const HERE = 'this host';

/** Adds `local` with what can be done on the host. */
export function registerLocal(group: Command, io: CliIo): void {
  const local = group
    .command('local')
    .description('The programs of this host, asked of its agent, also without a controller.');
  addSocketOptions(local.command('ls'))
    .description('List the programs of this host with their figures.')
    .action(async (options: SocketOptions, command: Command) => {
      const answer = await ask(io, command, options, (client) => client.call(LocalService.method.listPrograms, {}));
      if (io.json) return await io.stdout.line(toJson(localView(answer)));
      await io.list(answer.programs.map(programOf), programColumns(Date.now()), 'no programs');
      for (const artifact of answer.quarantined) await io.note(plainText(`quarantined: ${artifact}`));
    });
  addSocketOptions(local.command('rollback <name>'))
    .description('Go back to the revision before, or unload the program if there is none, whoever asked for it.')
    .option('--reason <text>', 'why, for others to read', '')
    .action(async (name: string, options: SocketOptions & { reason: string }, command: Command) => {
      const request = { name, reason: options.reason };
      const { rollback } = await ask(io, command, options, (client) =>
        client.call(LocalService.method.rollBackProgram, request),
      );
      if (rollback?.error !== undefined) io.exitCode = EXIT.failed;
      await io.result(rollbackView(rollback!), () => plainText(rollbackSummary(HERE, rollback!)));
    });
  addSocketOptions(local.command('release [artifact]'))
    .description('Let a quarantined artifact be loaded again, or all of them.')
    .action(async (artifact: string | undefined, options: SocketOptions, command: Command) => {
      const request = { artifact: artifact ?? '' };
      const { artifacts } = await ask(io, command, options, (client) =>
        client.call(LocalService.method.releaseQuarantine, request),
      );
      await io.result({ released: artifacts }, () => artifacts.join('\n') || 'nothing is quarantined');
    });
}

function addSocketOptions(command: Command): Command {
  return command
    .option('--socket <path>', 'unix socket of the agent (env LONGLINE_LOCAL_SOCKET)')
    .option('--data-dir <path>', 'data folder of the agent, to find its socket (env LONGLINE_DATA_DIR)');
}

async function ask<T>(
  io: CliIo,
  command: Command,
  options: SocketOptions,
  work: (client: LocalClient) => Promise<T>,
): Promise<T> {
  using client = openLocal(io, options, globalOptions(command, io).timeoutMs);
  return await work(client);
}

function localView({ programs, quarantined }: ListProgramsResponse) {
  return {
    programs: programs.map(({ figures, status }) => ({
      ...(status === undefined ? {} : programStatusView(status)),
      figures: figures === undefined ? null : figuresView(figures),
    })),
    quarantined,
  };
}

/** As the controller would have it, for the same table. */
function programOf({ figures, status }: ListProgramsResponse['programs'][number]): Program {
  return create(ProgramSchema, {
    agentId: HERE,
    applied: true,
    ...(status === undefined ? {} : { status }),
    ...(figures === undefined ? {} : { telemetry: { figures } }),
  });
}

// `longline program ls|show|watch`: what runs where, and what it does.
import { create } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { type Program, ProgramFilterSchema } from '#gen/longline/fleet/v1/program_service_pb.js';
import { ProgramState } from '#gen/longline/v1/program_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { type Fleet, withFleet } from '../fleet-connection.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, toJson } from '../io.ts';
import { ReconnectBudget } from '../job/reconnect-budget.ts';
import { countValue, wordValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { plainText } from '../table.ts';
import { describeProgram, programColumns } from './description.ts';
import { programName, programStateName, programStateText, programView } from './views.ts';

interface FilterOptions {
  readonly agent?: string;
  readonly name?: string;
  readonly assignment?: string;
  readonly state?: ProgramState;
}

const STATES: Readonly<Record<string, ProgramState>> = Object.fromEntries(
  Object.values(ProgramState)
    .filter((state): state is ProgramState => typeof state === 'number' && state !== ProgramState.UNSPECIFIED)
    .map((state) => [programStateName(state), state]),
);

/** Adds `ls`, `show` and `watch`. */
export function registerReading(group: Command, io: CliIo): void {
  addFilterOptions(group.command('ls'))
    .description('List programs of a fleet by agent and name.')
    .option('--limit <n>', 'most programs; 0 for all', countValue(0, 1_000_000), 100)
    .action(async (options: FilterOptions & { limit: number }, command: Command) => {
      const programs = await withFleet(io, command, (fleet) => list(fleet, options, options.limit));
      if (io.json) return await io.stdout.line(toJson(programs.map(programView)));
      await io.list(programs, programColumns(Date.now()), 'no programs; `longline program load` loads one');
    });
  group
    .command('show [name]')
    .description('Show the programs of an agent, or one, with what they do.')
    .requiredOption('--agent <id>', 'which agent')
    .action(async (name: string | undefined, { agent: agentId }: { agent: string }, command: Command) => {
      const programs = await withFleet(io, command, (fleet) => show(fleet, agentId, name));
      if (io.json) return await io.stdout.line(toJson(programs.map(programView)));
      if (programs.length === 0) return await io.note(`agent ${agentId} has no programs`);
      await io.stdout.line(programs.map((one) => describeProgram(io, one, Date.now())).join('\n\n'));
    });
  addFilterOptions(group.command('watch'))
    .description('Show each change of programs and their figures until Ctrl-C.')
    .option('--count <n>', 'end after this many changes', countValue(1, 1_000_000))
    .action(async (options: FilterOptions & { count?: number }, command: Command) => {
      using interrupt = new InterruptGuard();
      await withFleet(io, command, (fleet) => watch(io, fleet, options, interrupt.signal));
    });
}

function addFilterOptions(command: Command): Command {
  return command
    .option('--agent <id>', 'only of this agent')
    .option('--name <name>', 'only of this name')
    .option('--assignment <name>', 'only of this assignment')
    .option('--state <state>', 'only in this state', wordValue(STATES));
}

function filterOf({ agent, assignment, name, state }: FilterOptions) {
  return create(ProgramFilterSchema, {
    agentId: agent ?? '',
    name: name ?? '',
    assignment: assignment ?? '',
    states: state === undefined ? [] : [state],
  });
}

async function list(fleet: Fleet, options: FilterOptions, limit: number): Promise<readonly Program[]> {
  const filter = filterOf(options);
  return await readPages(limit, async (pageToken, pageSize) => {
    const page = await fleet.programs.listPrograms({ filter, pageToken, pageSize });
    return { items: page.programs, nextPageToken: page.nextPageToken };
  });
}

async function show(fleet: Fleet, agentId: string, name: string | undefined): Promise<readonly Program[]> {
  if (name !== undefined) return [(await fleet.programs.getProgram({ agentId, name })).program!];
  const found = await list(fleet, { agent: agentId }, 0);
  // An agent that isn't there has no programs either; only the first is a mistake.
  if (found.length === 0) await fleet.agents.getAgent({ agentId });
  return found;
}

async function watch(
  io: CliIo,
  fleet: Fleet,
  options: FilterOptions & { readonly count?: number },
  signal: AbortSignal,
): Promise<void> {
  const budget = new ReconnectBudget();
  let left = options.count ?? Number.POSITIVE_INFINITY;
  const leaving = AbortSignal.any([signal, io.stdout.closed]);
  while (!leaving.aborted) {
    try {
      await fleet.bringUp();
      const stream = fleet.streams.programs.watchPrograms({ filter: filterOf(options) }, { signal: leaving });
      for await (const { event } of stream) {
        budget.progress();
        if (event.case === 'program')
          await io.stdout.line(io.json ? toJson(programView(event.value)) : lineOf(event.value));
        else if (event.case === 'removed') {
          const { agentId, name } = event.value;
          await io.stdout.line(
            io.json ? toJson({ agent_id: agentId, name, removed: true }) : `${agentId} ${name}: gone`,
          );
        }
        left -= 1;
        if (left <= 0) return;
      }
      // It never ends by itself; a controller that stops ends it.
      throw new LonglineError('unavailable', 'the controller left');
    } catch (error) {
      if (leaving.aborted) break;
      await budget.wait(error, (thrown) => fleet.toError(thrown), leaving);
    }
  }
  if (signal.aborted) throw signal.reason;
}

function lineOf(program: Program): string {
  const { agentId, status, telemetry } = program;
  const figures = telemetry?.figures;
  const version = status?.current === undefined ? '' : ` ${status.current.version}`;
  const text = `${agentId} ${programName(program)}: ${programStateText(program)}${version}`;
  if (figures === undefined) return plainText(text);
  const { cpuPercent, errors, packets, violations } = figures;
  const counts = `${packets} packets, ${violations} violations, ${errors} errors, ${cpuPercent.toFixed(2)} % cpu`;
  return plainText(`${text}: ${counts}`);
}

// `longline program assign|assignments|unassign`: a program on all agents that a selector picks.
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { type Command, InvalidArgumentError } from 'commander';
import { ProgramDelivery, type PutAssignmentResponse } from '#gen/longline/fleet/v1/program_service_pb.js';
import type { ProgramSpec } from '#gen/longline/v1/program_pb.js';
import { withFleet } from '../fleet-connection.ts';
import { type CliIo, toJson } from '../io.ts';
import { countValue, durationValue, type SelectorValue, selectorValue, wordValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { plainText } from '../table.ts';
import { storedArtifact } from './artifact-upload.ts';
import { followRollout } from './rollout.ts';
import { assignmentColumns, assignmentView, rolloutView } from './rollout-views.ts';
import { addProgramSpecOptions, type ProgramSpecOptions, programSpecOf } from './spec-options.ts';

const HELP = `
The name is that of the program on each agent. What differs from before is rolled out in waves; a wave that fails halts it, and
every agent gets back what it had before.

Examples:
  longline program assign drop --selector role=edge --artifact drop.tar.zst --attach xdp:eth0
  longline program assign drop --selector role=edge --artifact drop-2.tar.zst --waves 5,25,100 --pause 10m --wait
  longline program assign drop --selector role=edge --artifact drop.tar.zst --delivery poll`;

interface AssignOptions extends ProgramSpecOptions {
  readonly selector: SelectorValue;
  readonly delivery?: ProgramDelivery;
  readonly waves?: readonly number[];
  readonly pause?: number;
  readonly manual?: boolean;
  readonly maxFailed?: number;
  readonly waveTimeout?: number;
  readonly keepOnHalt?: boolean;
  readonly dryRun?: boolean;
  readonly wait?: boolean;
}

/** Adds `assign`, `assignments` and `unassign`. */
export function registerAssignments(group: Command, io: CliIo): void {
  registerAssign(group, io);
  group
    .command('assignments')
    .description('List assignments by name.')
    .option('--limit <n>', 'most assignments; 0 for all', countValue(0, 1_000_000), 100)
    .action(async ({ limit }: { limit: number }, command: Command) => {
      const assignments = await withFleet(io, command, (fleet) =>
        readPages(limit, async (pageToken, pageSize) => {
          const page = await fleet.programs.listAssignments({ pageToken, pageSize });
          return { items: page.assignments, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(assignments.map(assignmentView)));
      await io.list(assignments, assignmentColumns(Date.now()), 'no assignments; `longline program assign` makes one');
    });
  group
    .command('unassign <name...>')
    .description('Take assignments away, and their programs from all agents.')
    .action(async (names: string[], _options: object, command: Command) => {
      await withFleet(io, command, async (fleet) => {
        for (const name of names) await fleet.programs.deleteAssignment({ name });
      });
      await io.result({ unassigned: names }, () => plainText(`${names.join(', ')} being taken away`));
    });
}

function registerAssign(group: Command, io: CliIo): void {
  const assign = group
    .command('assign <name>')
    .description('Have a program on all agents that a selector picks, now and later.')
    .requiredOption(
      '--selector <selector>',
      'which agents: KEY=VALUE, KEY, id:AGENT with commas between; * for all',
      selectorValue,
    )
    .option('--delivery <how>', 'push or poll', wordValue({ push: ProgramDelivery.PUSH, poll: ProgramDelivery.POLL }))
    .option('--dry-run', 'upload and check only; nothing is stored')
    .option('--wait', 'follow the rollout until it has ended or is halted');
  addProgramSpecOptions(assign)
    .optionsGroup('Rollout:')
    .option('--waves <percents>', 'percent of the agents that have it after each wave: 5,25,100', wavesValue)
    .option('--pause <duration>', 'how long each wave is watched before the next (default 1m)', durationValue)
    .option('--manual', 'wait for `longline program rollout resume` after each wave')
    .option('--max-failed <percent>', 'of the agents reached that may fail (default 0)', countValue(0, 100))
    .option('--wave-timeout <duration>', 'how long an agent has for becoming active (default 10m)', durationValue)
    .option('--keep-on-halt', 'leave everything as it is when it is halted')
    .addHelpText('after', HELP)
    .action(async (name: string, options: AssignOptions, command: Command) => {
      await withFleet(io, command, async (fleet) => {
        const { artifact, created } = await storedArtifact(fleet, options.artifact);
        if (created && !io.json) await io.note(plainText(`uploaded ${artifact.metadata?.name} as ${artifact.digest}`));
        const spec = programSpecOf(options, artifact, name);
        const answer = await fleet.programs.putAssignment(requestOf(name, spec, options));
        const { rollout } = answer;
        if (rollout !== undefined && options.wait) return await followRollout(io, fleet, rollout.id);
        await tell(io, name, answer, options.dryRun === true);
      });
    });
}

function requestOf(name: string, spec: ProgramSpec, options: AssignOptions) {
  const { delivery, dryRun = false, keepOnHalt = false, manual = false, maxFailed = 0, selector, waves = [] } = options;
  const { pause, waveTimeout } = options;
  const strategy = {
    waves: [...waves],
    manual,
    keepOnHalt,
    maxFailedPercent: maxFailed,
    ...(pause === undefined ? {} : { pause: durationFromMs(pause) }),
    ...(waveTimeout === undefined ? {} : { waveTimeout: durationFromMs(waveTimeout) }),
  };
  const assignment = { name, spec, selector, strategy, delivery: delivery ?? ProgramDelivery.PUSH };
  return { assignment, validateOnly: dryRun };
}

async function tell(io: CliIo, name: string, answer: PutAssignmentResponse, dryRun: boolean): Promise<void> {
  const { assignment, rollout } = answer;
  const view = {
    ...assignmentView(assignment!),
    begun: rollout === undefined ? null : rolloutView(rollout),
    dry_run: dryRun,
  };
  await io.result(view, () => {
    const agents = `${assignment!.agents} agents`;
    if (dryRun) return plainText(`${name}: would be assigned to ${agents}`);
    return plainText(
      rollout === undefined ? `${name}: unchanged, ${agents}` : `${name}: rollout ${rollout.id}, ${agents}`,
    );
  });
}

function wavesValue(text: string): readonly number[] {
  const waves = text.split(',').map((part) => (/^\d{1,3}$/.test(part.trim()) ? Number(part) : 0));
  const grows = waves.every((wave, place) => wave > (waves[place - 1] ?? 0) && wave <= 100);
  if (!grows)
    throw new InvalidArgumentError('Give growing percents of 1 to 100 with commas between, such as 5,25,100.');
  return waves;
}

// `longline program load`: a program on one agent, from a file or an artifact that the controller has.
import type { Command } from 'commander';
import type { Program } from '#gen/longline/fleet/v1/program_service_pb.js';
import { type Fleet, withFleet } from '../fleet-connection.ts';
import { type CliIo, EXIT } from '../io.ts';
import { durationValue } from '../option-values.ts';
import { plainText } from '../table.ts';
import { storedArtifact } from './artifact-upload.ts';
import { addProgramSpecOptions, type ProgramSpecOptions, programSpecOf } from './spec-options.ts';
import { programStateText, programView } from './views.ts';
import { isFailed, noteProblems, waitUntilRunning } from './waiting.ts';

const HELP = `
A program of that name which is there already becomes a new revision: it is loaded beside, takes over, and the one before stays
loaded to go back to. The same again changes nothing.

Examples:
  longline program load --agent web-1 --artifact drop.tar.zst --attach xdp:eth0 --param limit=100 --ttl 1h
  longline program load --agent web-1 --artifact sha256:4f3c… --name drop-b --attach count@xdp:eth1
  longline program load --agent web-1 --artifact drop.tar.zst --dry-run`;

interface LoadOptions extends ProgramSpecOptions {
  readonly agent: string;
  readonly name?: string;
  readonly detach?: boolean;
  readonly dryRun?: boolean;
  readonly limit: number;
}

/** Adds `load`. */
export function registerLoad(group: Command, io: CliIo): void {
  const load = group
    .command('load')
    .description('Load a program on an agent, or a new revision of one, and wait until it runs.')
    .requiredOption('--agent <id>', 'which agent')
    .option('--name <name>', 'name of the program; that of the artifact if left out')
    .option('-d, --detach', 'ask only; do not wait')
    .option('--dry-run', 'upload and check only; nothing is loaded')
    .option('--limit <duration>', 'how long to wait; then it goes on by itself', durationValue, 120_000);
  addProgramSpecOptions(load)
    .addHelpText('after', HELP)
    .action(async (options: LoadOptions, command: Command) => {
      await withFleet(io, command, (fleet) => loadProgram(io, fleet, options));
    });
}

async function loadProgram(io: CliIo, fleet: Fleet, options: LoadOptions): Promise<void> {
  const { agent: agentId, detach = false, dryRun = false, limit } = options;
  const { artifact, created } = await storedArtifact(fleet, options.artifact);
  if (created && !io.json) await io.note(plainText(`uploaded ${artifact.metadata?.name} as ${artifact.digest}`));
  const spec = programSpecOf(options, artifact, options.name);
  const { changed, program: put } = await fleet.programs.putProgram({ agentId, spec, validateOnly: dryRun });
  const waits = !detach && !dryRun;
  const program = waits ? await waitUntilRunning(io, fleet, agentId, spec.name, limit) : put!;
  if (waits && isFailed(program)) io.exitCode = EXIT.failed;
  if (!io.json) await noteProblems(io, program);
  await io.result({ ...programView(program), changed, dry_run: dryRun }, () => summary(program, changed, dryRun));
}

function summary(program: Program, changed: boolean, dryRun: boolean): string {
  const { agentId, spec, status } = program;
  if (dryRun) return plainText(`${agentId} ${spec?.name}: would be ${changed ? 'changed' : 'unchanged'}`);
  const where = status?.links.map(({ attach }) => attach).join(' ');
  const revision = status?.current === undefined ? '' : `, revision ${status.current.number}`;
  const text = `${agentId} ${spec?.name}: ${programStateText(program)}${revision}`;
  return plainText(where ? `${text} on ${where}` : text);
}

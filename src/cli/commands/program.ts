// `longline program`: eBPF programs, their artifacts and rollouts. Each subcommand has a file in ../program/.
import type { Command } from 'commander';
import type { CliIo } from '../io.ts';
import { registerArtifacts } from '../program/artifacts.ts';
import { registerAssignments } from '../program/assign.ts';
import { registerInspect } from '../program/inspect.ts';
import { registerLoad } from '../program/load.ts';
import { registerLocal } from '../program/local.ts';
import { registerPack } from '../program/pack.ts';
import { registerReading } from '../program/reading.ts';
import { registerRollback } from '../program/rollback.ts';
import { registerRollouts } from '../program/rollout.ts';
import { registerUnload } from '../program/unload.ts';
import { registerVerify } from '../program/verify.ts';

const FLEET = 'Agents of a fleet:';
const HOST = 'This host:';
const ASSIGNMENTS = 'A whole fleet:';
const FILES = 'Artifacts as files:';
const ARTIFACTS = 'Artifacts on a controller:';

const EXAMPLES = `
Examples:
  longline program pack --object drop.bpf.o --metadata drop.toml --key ops.key --out drop.tar.zst
  longline program load --agent web-1 --artifact drop.tar.zst --attach xdp:eth0 --param limit=100 --ttl 1h
  longline program ls --agent web-1
  longline program watch --agent web-1
  longline program rollback drop --agent web-1 --reason "drops too much"
  longline program unload drop --agent web-1 --wait
  longline program assign drop --selector role=edge --artifact drop.tar.zst --waves 5,25,100 --pause 10m --wait`;

/** Adds `program`. */
export function registerProgramCommands(program: Command, io: CliIo): void {
  const group = program
    .command('program')
    .description('Pack, load, roll out and roll back eBPF programs.')
    .addHelpText('after', EXAMPLES);
  group.commandsGroup(FLEET);
  registerLoad(group, io);
  registerUnload(group, io);
  registerReading(group, io);
  registerRollback(group, io);
  group.commandsGroup(HOST);
  registerLocal(group, io);
  group.commandsGroup(ASSIGNMENTS);
  registerAssignments(group, io);
  registerRollouts(group, io);
  group.commandsGroup(FILES);
  registerPack(group, io);
  registerInspect(group, io);
  registerVerify(group, io);
  group.commandsGroup(ARTIFACTS);
  registerArtifacts(group, io);
}

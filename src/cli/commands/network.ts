// `longline network`: WireGuard networks of this host, and of the agents of a fleet. Each subcommand has a file in ../network/.
import type { Command } from 'commander';
import type { CliIo } from '../io.ts';

import { registerApply, registerList, registerRemove } from '../network/fleet.ts';
import { registerGenkey, registerPubkey } from '../network/keys.ts';
import { registerMesh } from '../network/mesh.ts';
import { registerRotation } from '../network/rotation.ts';
import { registerShow } from '../network/show.ts';
import { registerDown, registerUp } from '../network/up-down.ts';

const THIS_HOST = 'This host:';
const FLEET = 'Agents of a fleet:';

const EXAMPLES = `
Examples:
  longline network up --config /etc/longline/network.toml
  longline network up --config network.toml --mode ephemeral --state-dir ./state
  longline network show
  longline network show default --agent web-1 --json
  longline network genkey --out private.key; longline network pubkey private.key
  longline network apply --agent web-1 --file network.toml --wait
  longline network mesh create office --pool 10.100.0.0/16 --member web-1=web-1.example.org --member laptop
  longline network rotate-key --mesh office --wait`;

/** Adds `network`. */
export function registerNetworkCommands(program: Command, io: CliIo): void {
  const network = program
    .command('network')
    .description('Keep, show and take down WireGuard networks.')
    .addHelpText('after', EXAMPLES);
  network.commandsGroup(THIS_HOST);
  registerUp(network, io);
  registerDown(network, io);
  registerShow(network, io);
  registerGenkey(network, io);
  registerPubkey(network, io);
  network.commandsGroup(FLEET);
  registerApply(network, io);
  registerList(network, io);
  registerRemove(network, io);
  registerMesh(network, io);
  registerRotation(network, io);
}

// `longline network`: WireGuard networks of this host. Each subcommand has a file in ../network/.
import type { Command } from 'commander';
import type { CliIo } from '../io.ts';

import { registerGenkey, registerPubkey } from '../network/keys.ts';
import { registerShow } from '../network/show.ts';
import { registerDown, registerUp } from '../network/up-down.ts';

const EXAMPLES = `
Examples:
  longline network up --config /etc/longline/network.toml
  longline network up --config network.toml --mode ephemeral --state-dir ./state
  longline network show
  longline network show default --json
  longline network genkey --out private.key; longline network pubkey private.key`;

/** Adds `network`. */
export function registerNetworkCommands(program: Command, io: CliIo): void {
  const network = program
    .command('network')
    .description('Keep, show and take down WireGuard networks.')
    .addHelpText('after', EXAMPLES);
  registerUp(network, io);
  registerDown(network, io);
  registerShow(network, io);
  registerGenkey(network, io);
  registerPubkey(network, io);
}

// `longline network show`: the networks of this host with their peers, as they are now.
import type { Command } from 'commander';
import { LocalService } from '#gen/longline/local/v1/local_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { type CliIo, toJson } from '../io.ts';
import { describeNetwork } from './description.ts';
import { showFleetNetworks } from './fleet-show.ts';
import { addSocketOptions, openNetworkSocket, type SocketOptions } from './local-socket.ts';
import { networkStatusView } from './views.ts';

/** Adds `show`. */
export function registerShow(network: Command, io: CliIo): void {
  addSocketOptions(network.command('show [name]'))
    .description('Show the networks of this host, or of an agent of a fleet, or one, with peers and health.')
    .option('--agent <id>', 'ask the controller of the context for the networks of this agent')
    .action(async (name: string | undefined, options: SocketOptions & { agent?: string }, command: Command) => {
      if (options.agent === undefined) return await showOwnNetworks(io, command, options, name);
      if (options.socket !== undefined || options.stateDir !== undefined) {
        throw new LonglineError('invalid', '--agent asks a controller; leave out --socket and --state-dir');
      }
      await showFleetNetworks(io, command, options.agent, name);
    });
}

async function showOwnNetworks(
  io: CliIo,
  command: Command,
  options: SocketOptions,
  name: string | undefined,
): Promise<void> {
  using client = openNetworkSocket(io, options, command);
  const { networks } = await client.call(LocalService.method.listNetworks, {});
  const shown = name === undefined ? networks : networks.filter((one) => one.name === name);
  if (name !== undefined && shown.length === 0) {
    const known = networks.map((one) => one.name).join(', ') || 'none';
    throw new LonglineError('not_found', `there is no network "${name}"; there are: ${known}`);
  }
  if (io.json) return await io.stdout.line(toJson(shown.map(networkStatusView)));
  if (shown.length === 0) return await io.note('no networks');
  await io.stdout.line(shown.map((one) => describeNetwork(io, one)).join('\n\n'));
}

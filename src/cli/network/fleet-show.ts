// The part of `longline network show` that asks a controller: networks of an agent, as wanted and as they are.
import type { Command } from 'commander';
import type { Network } from '#gen/longline/fleet/v1/network_service_pb.js';
import type { NetworkPeer } from '#gen/longline/v1/network_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { ageOf } from '../age.ts';
import { withFleet } from '../fleet-connection.ts';
import { type CliIo, toJson } from '../io.ts';
import { readPages } from '../paging.ts';
import { plainText } from '../table.ts';
import { describeNetwork } from './description.ts';
import { fleetNetworkView, fleetStateText } from './fleet-views.ts';

/** Shows the networks of an agent, or one. */
export async function showFleetNetworks(
  io: CliIo,
  command: Command,
  agentId: string,
  name: string | undefined,
): Promise<void> {
  const networks = await withFleet(io, command, async (fleet) => {
    if (name !== undefined) return [(await fleet.networks.getNetwork({ agentId, name })).network!];
    const found = await readPages(0, async (pageToken, pageSize) => {
      const page = await fleet.networks.listNetworks({ filter: { agentId }, pageToken, pageSize });
      return { items: page.networks, nextPageToken: page.nextPageToken };
    });
    // An agent that isn't there has no networks either; only the first is a mistake.
    if (found.length === 0) await fleet.agents.getAgent({ agentId });
    return found;
  });
  if (io.json) return await io.stdout.line(toJson(networks.map(fleetNetworkView)));
  if (networks.length === 0) return await io.note(`agent ${agentId} has no networks`);
  await io.stdout.line(networks.map((one) => describeFleetNetwork(io, one, Date.now())).join('\n\n'));
}

function describeFleetNetwork(io: CliIo, network: Network, nowMs: number): string {
  const { agentId, error, generation, mesh, spec, status, statusTime } = network;
  const told = status === undefined ? 'nothing yet' : ageOf(statusTime, nowMs);
  const lines = [
    `agent ${agentId}, generation ${generation}: ${fleetStateText(network)}; told ${told}`,
    ...(mesh === '' ? [] : [`part of mesh ${mesh}`]),
    ...(error === undefined ? [] : [io.paint('red', `refused: ${error.message}`)]),
  ];
  if (status !== undefined) return [...lines.map((line) => plainText(line)), describeNetwork(io, status)].join('\n');
  if (spec === undefined) throw new LonglineError('internal', 'the controller showed a network without its spec');
  const wanted = [
    `network ${spec.name}`,
    `  interface    ${spec.interface}`,
    `  addresses    ${spec.addresses.join(', ') || '-'}`,
    ...spec.peers.map(describePeer),
  ];
  return [...lines, ...wanted].map((line) => plainText(line)).join('\n');
}

function describePeer({ allowedIps, endpoint, name, publicKey }: NetworkPeer): string {
  return `  ${name || 'peer'}  ${publicKey}  ${endpoint || '-'}  ${allowedIps.join(', ') || '-'}`;
}

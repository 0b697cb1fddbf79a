// `longline network show`: the networks of this host with their peers, as they are now.
import { durationMs } from '@bufbuild/protobuf/wkt';
import type { Command } from 'commander';
import { LocalService } from '#gen/longline/local/v1/local_pb.js';
import type { NetworkPeerStatus, NetworkStatus } from '#gen/longline/v1/network_pb.js';
import { formatDuration } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { type CliIo, toJson } from '../io.ts';
import { plainText } from '../table.ts';
import { addSocketOptions, openNetworkSocket, type SocketOptions } from './local-socket.ts';
import { backendName, healthName, networkStateName, networkStatusView } from './views.ts';

/** Adds `show`. */
export function registerShow(network: Command, io: CliIo): void {
  addSocketOptions(network.command('show [name]'))
    .description('Show the networks of this host, or one, with peers and health.')
    .action(async (name: string | undefined, options: SocketOptions, command: Command) => {
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
    });
}

/** A network as people read it, much as `wg show` puts it. */
export function describeNetwork(io: CliIo, network: NetworkStatus): string {
  const state = networkStateName(network.state);
  const key = network.keys.find(({ epoch }) => epoch === network.keyEpoch);
  const { active = 0, idle = 0, stale = 0, suspect = 0 } = network.counts ?? {};
  const lines = [
    `${io.paint('bold', `network ${plainText(network.name)}`)}  ${paintState(io, state)}`,
    `  interface    ${plainText(network.interface)} (${backendName(network.backend) || 'not opened'}, MTU ${network.mtu})`,
    `  public key   ${key?.publicKey ?? '-'}`,
    `  listens on   ${network.listenPort || '-'}`,
    `  addresses    ${network.addresses.join(', ') || '-'}`,
    `  traffic      ${traffic(network)}`,
    `  peers        ${active} active, ${idle} idle, ${suspect} suspect, ${stale} stale`,
    ...network.problems.map(({ field, harmless, message }) => {
      const label = harmless ? 'note' : io.paint('red', 'problem');
      return `  ${label}: ${plainText(`${field}: ${message}`)}`;
    }),
    ...network.peers.flatMap((peer) => describePeer(io, peer)),
  ];
  return lines.join('\n');
}

function describePeer(io: CliIo, peer: NetworkPeerStatus): string[] {
  const age = peer.handshakeAge === undefined ? 'none yet' : `${formatDuration(durationMs(peer.handshakeAge))} ago`;
  const marks = [
    ...(peer.hasPresharedKey ? ['preshared key'] : []),
    ...(peer.foreign ? ["somebody else's"] : []),
    ...(peer.persistentKeepaliveSecs > 0 ? [`keepalive every ${peer.persistentKeepaliveSecs} s`] : []),
  ];
  return [
    '',
    `  ${io.paint('bold', plainText(peer.name) || 'peer')}  ${peer.publicKey}  ${paintHealth(io, healthName(peer.health))}`,
    `    endpoint   ${peer.endpoint || '-'}`,
    `    allowed    ${peer.allowedIps.join(', ') || '-'}`,
    `    handshake  ${age}`,
    `    traffic    ${traffic(peer)}`,
    ...(marks.length === 0 ? [] : [`    with       ${marks.join(', ')}`]),
  ];
}

function traffic({ receivedBytes, sentBytes }: { readonly receivedBytes: bigint; readonly sentBytes: bigint }): string {
  return `${sizeText(receivedBytes)} received, ${sizeText(sentBytes)} sent`;
}

function sizeText(bytes: bigint): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = Number(bytes);
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? value : value.toFixed(2)} ${units[unit]}`;
}

function paintState(io: CliIo, state: string): string {
  return io.paint(state === 'up' ? 'green' : state === 'failed' ? 'red' : 'yellow', state);
}

function paintHealth(io: CliIo, health: string): string {
  return io.paint(
    health === 'active' ? 'green' : health === 'stale' ? 'red' : health === 'idle' ? 'gray' : 'yellow',
    health,
  );
}

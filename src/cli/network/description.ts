// A network with its peers in words, whoever told of it.
import { durationMs } from '@bufbuild/protobuf/wkt';
import type { NetworkPeerStatus, NetworkStatus } from '#gen/longline/v1/network_pb.js';
import { formatDuration } from '../../core/clock.ts';
import type { CliIo } from '../io.ts';
import { plainText } from '../table.ts';
import { backendName, healthName, networkStateName } from './views.ts';

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

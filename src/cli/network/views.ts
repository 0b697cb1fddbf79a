// Networks as machine output, in the shapes that views.ts promises.
import {
  NetworkBackend,
  NetworkPeerHealth,
  type NetworkPeerStatus,
  NetworkState,
  type NetworkStatus,
} from '#gen/longline/v1/network_pb.js';
import { durationView, timeView, type View } from '../views.ts';

/** "up" for NetworkState.UP. */
export function networkStateName(state: NetworkState): string {
  return (NetworkState[state] ?? '').toLowerCase();
}

/** "wireguard-go"; empty for unspecified. */
export function backendName(backend: NetworkBackend): string {
  if (backend === NetworkBackend.UNSPECIFIED) return '';
  return (NetworkBackend[backend] ?? '').toLowerCase().replaceAll('_', '-');
}

/** "active". */
export function healthName(health: NetworkPeerHealth): string {
  return (NetworkPeerHealth[health] ?? '').toLowerCase();
}

/** A network with its peers. */
export function networkStatusView(network: NetworkStatus): View {
  const { active = 0, idle = 0, stale = 0, suspect = 0 } = network.counts ?? {};
  return {
    name: network.name,
    interface: network.interface,
    state: networkStateName(network.state),
    source: network.source,
    backend: backendName(network.backend) || null,
    keys: network.keys.map(({ epoch, publicKey }) => ({ epoch, public_key: publicKey })),
    key_epoch: network.keyEpoch,
    listen_port: network.listenPort || null,
    addresses: network.addresses,
    mtu: network.mtu,
    problems: network.problems.map(({ field, harmless, message }) => ({ field, message, harmless })),
    counts: { active, idle, suspect, stale },
    received_bytes: network.receivedBytes,
    sent_bytes: network.sentBytes,
    reconciled_at: timeView(network.reconcileTime),
    peers: network.peers.map(peerView),
  };
}

function peerView(peer: NetworkPeerStatus): View {
  return {
    name: peer.name,
    public_key: peer.publicKey,
    endpoint: peer.endpoint || null,
    allowed_ips: peer.allowedIps,
    health: healthName(peer.health),
    handshake_age_ms: durationView(peer.handshakeAge),
    received_bytes: peer.receivedBytes,
    sent_bytes: peer.sentBytes,
    persistent_keepalive_secs: peer.persistentKeepaliveSecs,
    has_preshared_key: peer.hasPresharedKey,
    foreign: peer.foreign,
  };
}

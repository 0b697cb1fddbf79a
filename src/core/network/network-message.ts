// Networks between domain values and longline.v1.NetworkSpec, by the shape of that message and not by generated code: agent,
// controller and command line all read and write it, each with its own slice of the contract. Pure.

import { DNS_BACKENDS } from './name-servers.ts';
import { BACKENDS, type NetworkDraft, type NetworkSpec, type PeerDraft } from './network-spec.ts';

/** A longline.v1.NetworkPeer. */
export interface PeerMessage {
  readonly name: string;
  readonly publicKey: string;
  readonly endpoint: string;
  readonly allowedIps: string[];
  readonly persistentKeepaliveSecs: number;
  readonly presharedKeyPath: string;
}

/** A longline.v1.NetworkSpec. Enums are the numbers of the contract. */
export interface NetworkMessage {
  readonly name: string;
  readonly interface: string;
  readonly addresses: string[];
  readonly listenPort: number;
  readonly mtu: number;
  readonly privateKeyPath: string;
  readonly keyEpoch: number;
  readonly nextKeyEpoch: number;
  readonly peers: PeerMessage[];
  readonly routes: string[];
  readonly table: string;
  readonly fwmark: number;
  readonly dnsServers: string[];
  readonly dnsDomains: string[];
  readonly dnsBackend: number;
  readonly forward: boolean;
  readonly natSubnets: string[];
  readonly backend: number;
  readonly foreignPeers: number;
  readonly adoptInterface: boolean;
}

/** Numbers of longline.v1.ForeignPeers; 0 takes the first. */
const FOREIGN_PEERS = ['keep', 'own'] as const;

/** What a message asks for, as far as it says anything. */
export function draftOf(message: NetworkMessage): NetworkDraft {
  const { backend, foreignPeers } = message;
  return {
    name: message.name,
    interface: message.interface || undefined,
    privateKeyPath: message.privateKeyPath || undefined,
    keyEpoch: message.keyEpoch,
    nextKeyEpoch: message.nextKeyEpoch,
    addresses: message.addresses,
    listenPort: message.listenPort || undefined,
    mtu: message.mtu || undefined,
    dns: message.dnsServers,
    dnsDomains: message.dnsDomains,
    dnsBackend: DNS_BACKENDS[message.dnsBackend] ?? `backend ${message.dnsBackend}`,
    forward: message.forward,
    natSubnets: message.natSubnets,
    routes: message.routes,
    table: message.table || undefined,
    fwmark: message.fwmark,
    backend: backend === 0 ? undefined : (BACKENDS[backend - 1] ?? `backend ${backend}`),
    foreignPeers: foreignPeers === 0 ? undefined : (FOREIGN_PEERS[foreignPeers - 1] ?? `policy ${foreignPeers}`),
    adoptInterface: message.adoptInterface,
    peers: message.peers.map(peerDraft),
  };
}

function peerDraft(peer: PeerMessage): PeerDraft {
  return {
    name: peer.name || undefined,
    publicKey: peer.publicKey === '' ? undefined : peer.publicKey,
    endpoint: peer.endpoint || undefined,
    allowedIps: peer.allowedIps,
    keepaliveSecs: peer.persistentKeepaliveSecs,
    presharedKeyPath: peer.presharedKeyPath || undefined,
  };
}

/** A spec as a message: in canonical form, whoever wrote it how. */
export function messageOf(spec: NetworkSpec): NetworkMessage {
  return {
    name: spec.name,
    interface: spec.interface,
    addresses: [...spec.addresses],
    listenPort: spec.listenPort ?? 0,
    mtu: spec.mtu,
    privateKeyPath: spec.privateKeyPath ?? '',
    keyEpoch: spec.keyEpoch,
    nextKeyEpoch: spec.nextKeyEpoch,
    peers: spec.peers.map((peer) => ({
      name: peer.name,
      publicKey: peer.publicKey,
      endpoint: peer.endpoint ?? '',
      allowedIps: [...peer.prefixes],
      persistentKeepaliveSecs: peer.keepaliveSecs,
      presharedKeyPath: peer.presharedKeyPath ?? '',
    })),
    routes: [...spec.routes],
    table: String(spec.table),
    fwmark: spec.fwmark,
    dnsServers: [...spec.dns],
    dnsDomains: [...spec.dnsDomains],
    dnsBackend: DNS_BACKENDS.indexOf(spec.dnsBackend),
    forward: spec.forward,
    natSubnets: [...spec.natSubnets],
    backend: spec.backend === 'auto' ? 0 : BACKENDS.indexOf(spec.backend) + 1,
    foreignPeers: FOREIGN_PEERS.indexOf(spec.foreignPeers) + 1,
    adoptInterface: spec.adoptInterface,
  };
}

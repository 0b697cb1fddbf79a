// The only file of the capability that knows generated code: longline.v1 messages to and from domain values. Messages of what is
// asked for are plain data, and are kept as they came, in canonical order; those of what is observed are made here.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type NetworkBackend,
  type NetworkDesiredState,
  NetworkDesiredStateSchema,
  type NetworkPeer,
  NetworkPeerHealth,
  type NetworkPeerStatus,
  NetworkPeerStatusSchema,
  NetworkProblemSchema,
  type NetworkSpec as NetworkSpecMessage,
  NetworkSpecSchema,
  NetworkStateDetailSchema,
  type NetworkStatus,
  NetworkStatusSchema,
  NetworkTelemetrySchema,
  NetworkState as WireState,
} from '#gen/longline/v1/network_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { BACKENDS } from '../../core/network/network-spec.ts';
import type { NetworkView, PeerView, Problem } from './status.ts';

export type { NetworkDesiredState, NetworkPeer, NetworkSpecMessage, NetworkStatus };

/** A spec message in parts. */
export type NetworkSpecInit = MessageInitShape<typeof NetworkSpecSchema>;

/** The message of a serialised longline.v1.NetworkDesiredState. Throws `invalid` if it isn't one. */
export function decodeDesiredState(body: Uint8Array): NetworkDesiredState {
  try {
    return fromBinary(NetworkDesiredStateSchema, body, { readUnknownFields: false });
  } catch (cause) {
    throw new LonglineError('invalid', 'the body is not a longline.v1.NetworkDesiredState', { cause });
  }
}

/** Serialised, as it is digested and kept. */
export function encodeDesiredState(state: MessageInitShape<typeof NetworkDesiredStateSchema>): Uint8Array {
  return toBinary(NetworkDesiredStateSchema, create(NetworkDesiredStateSchema, state));
}

/** A spec from bytes that encodeSpec made. */
export function decodeSpec(bytes: Uint8Array): NetworkSpecMessage {
  return fromBinary(NetworkSpecSchema, bytes);
}

export function encodeSpec(spec: NetworkSpecMessage): Uint8Array {
  return toBinary(NetworkSpecSchema, spec);
}

/** A spec message from its parts. */
export function specMessage(spec: NetworkSpecInit): NetworkSpecMessage {
  return create(NetworkSpecSchema, spec);
}

const STATE = {
  starting: WireState.STARTING,
  up: WireState.UP,
  degraded: WireState.DEGRADED,
  failed: WireState.FAILED,
  removing: WireState.REMOVING,
} as const;

const HEALTH = {
  active: NetworkPeerHealth.ACTIVE,
  idle: NetworkPeerHealth.IDLE,
  suspect: NetworkPeerHealth.SUSPECT,
  stale: NetworkPeerHealth.STALE,
} as const;

/** A network as it is reported; `withPeers` false leaves its peers out. */
export function statusMessage(view: NetworkView, nowMs: number, withPeers: boolean): NetworkStatus {
  const { reconciledAtMs, backend } = view;
  return create(NetworkStatusSchema, {
    name: view.name,
    interface: view.interface,
    state: STATE[view.state],
    backend: backend === undefined ? 0 : ((BACKENDS.indexOf(backend) + 1) as NetworkBackend),
    keys: view.keys.map(({ epoch, publicKey }) => ({ epoch, publicKey })),
    keyEpoch: view.keyEpoch,
    listenPort: view.listenPort ?? 0,
    addresses: [...view.addresses],
    mtu: view.mtu,
    problems: view.problems.map(problemMessage),
    counts: { ...view.counts },
    peers: withPeers ? view.peers.map((peer) => peerMessage(peer, nowMs)) : [],
    receivedBytes: BigInt(view.receivedBytes),
    sentBytes: BigInt(view.sentBytes),
    ...(reconciledAtMs === undefined ? {} : { reconcileTime: timestampFromMs(reconciledAtMs) }),
    source: view.source === 'controller' ? 'controller' : 'local',
  });
}

/** A problem as it is reported. */
export function problemMessage({ field, message, harmless }: Problem) {
  return create(NetworkProblemSchema, { field, message, harmless });
}

function peerMessage(peer: PeerView, nowMs: number): NetworkPeerStatus {
  const { lastHandshakeMs } = peer;
  return create(NetworkPeerStatusSchema, {
    name: peer.name,
    publicKey: peer.publicKey,
    endpoint: peer.endpoint ?? '',
    allowedIps: [...peer.prefixes],
    health: HEALTH[peer.health],
    ...(lastHandshakeMs === undefined ? {} : { handshakeAge: durationFromMs(Math.max(0, nowMs - lastHandshakeMs)) }),
    receivedBytes: BigInt(peer.receivedBytes),
    sentBytes: BigInt(peer.sentBytes),
    persistentKeepaliveSecs: peer.keepaliveSecs,
    hasPresharedKey: peer.hasPresharedKey,
    foreign: peer.foreign,
  });
}

/** A serialised longline.v1.NetworkStateDetail. */
export function encodeStateDetail(networks: readonly NetworkStatus[]): Uint8Array {
  return toBinary(NetworkStateDetailSchema, create(NetworkStateDetailSchema, { networks: [...networks] }));
}

/** A serialised longline.v1.NetworkTelemetry. */
export function encodeTelemetry(network: NetworkStatus): Uint8Array {
  return toBinary(NetworkTelemetrySchema, create(NetworkTelemetrySchema, { network }));
}

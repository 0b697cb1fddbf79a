// Desired states of kind NETWORK: order, deltas and bytes as longline.v1.NetworkDesiredState promises them.
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import {
  type NetworkDesiredState,
  NetworkDesiredStateSchema,
  type NetworkPeer,
  NetworkPeerSchema,
  type NetworkSpec,
  NetworkSpecSchema,
} from '#gen/longline/v1/network_pb.js';
import { ActionSchema } from '#gen/longline/v1/signature_pb.js';
import { applyNetworkDelta, canonicalNetworks, diffNetworks } from '../../core/network-state.ts';
import type { StateBody } from './state-body.ts';

function bytesOf<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): Uint8Array {
  return toBinary(schema, message, { writeUnknownFields: false });
}

function same<Desc extends DescMessage>(schema: Desc, one: MessageShape<Desc>, other: MessageShape<Desc>): boolean {
  return Buffer.compare(bytesOf(schema, one), bytesOf(schema, other)) === 0;
}

const EQUALITY = {
  peer: (one: NetworkPeer, other: NetworkPeer) => same(NetworkPeerSchema, one, other),
  network: (one: NetworkSpec, other: NetworkSpec) =>
    same(NetworkSpecSchema, { ...one, peers: [] }, { ...other, peers: [] }),
};

function fullState(networks: readonly NetworkSpec[]): NetworkDesiredState {
  return create(NetworkDesiredStateSchema, { networks: [...networks] });
}

/** Networks of one agent. */
export const NETWORK_STATE: StateBody<NetworkDesiredState> = {
  kind: DesiredStateKind.NETWORK,
  empty: () => create(NetworkDesiredStateSchema),
  encode: ({ networks }) => bytesOf(NetworkDesiredStateSchema, fullState(canonicalNetworks(networks))),
  decode: (body) => fromBinary(NetworkDesiredStateSchema, body),
  diff: (from, to) => {
    const { networks, removedNetworks, peerDeltas } = diffNetworks<NetworkSpec>(from.networks, to.networks, EQUALITY);
    return create(NetworkDesiredStateSchema, {
      networks: [...networks],
      removedNetworks: [...removedNetworks],
      peerDeltas: peerDeltas.map(({ network, put, removed }) => ({ network, put: [...put], removed: [...removed] })),
    });
  },
  apply: (base, delta) => fullState(applyNetworkDelta<NetworkSpec>(base.networks, delta)),
  encodeDelta: (delta) => bytesOf(NetworkDesiredStateSchema, delta),
  field: (body) => ({ case: 'network', value: body }),
  permit: (permit) =>
    create(ActionSchema, { action: { case: 'network', value: { action: { case: 'permit', value: permit } } } }),
};

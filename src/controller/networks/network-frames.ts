// Networks as the pieces of their serialised form. A mesh gives each of its members all of the others as peers: a thousand
// members are a million peers, each of which is serialised once and then only copied and compared. What comes out is the
// canonical form of longline.v1.NetworkDesiredState, to the byte. Pure.
import { createHash } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import {
  NetworkDesiredStateSchema,
  type NetworkPeer,
  NetworkPeerDeltaSchema,
  NetworkPeerSchema,
  type NetworkSpec,
  NetworkSpecSchema,
} from '#gen/longline/v1/network_pb.js';

/** A peer: its key, the serialised NetworkPeer, and that as a field of a NetworkSpec. */
export interface PeerFrame {
  readonly key: string;
  readonly bytes: Uint8Array;
  readonly field: Uint8Array;
}

/** A network: what comes before and after its peers, and the peers in the order of their keys. */
export interface NetworkFrames {
  readonly name: string;
  readonly head: Uint8Array;
  readonly peers: readonly PeerFrame[];
  readonly tail: Uint8Array;
}

const PEERS = NetworkSpecSchema.field.peers.number;
const NAME = NetworkSpecSchema.field.name.number;
const PUBLIC_KEY = NetworkPeerSchema.field.publicKey.number;
const { networks: NETWORKS, removedNetworks: REMOVED, peerDeltas: DELTAS } = NetworkDesiredStateSchema.field;
const { network: DELTA_NETWORK, put: DELTA_PUT, removed: DELTA_REMOVED } = NetworkPeerDeltaSchema.field;

/** A peer, serialised. */
export function peerFrame(peer: NetworkPeer): PeerFrame {
  const bytes = toBinary(NetworkPeerSchema, peer, { writeUnknownFields: false });
  const field = new BinaryWriter().tag(PEERS, WireType.LengthDelimited).bytes(bytes).finish();
  return { key: peer.publicKey, bytes, field };
}

/** A network with these peers, in the order of their keys, in place of its own. */
export function networkFrames(spec: NetworkSpec, peers: readonly PeerFrame[]): NetworkFrames {
  const bytes = toBinary(NetworkSpecSchema, { ...spec, peers: [] }, { writeUnknownFields: false });
  const reader = new BinaryReader(bytes);
  let split = 0;
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field > PEERS) break;
    reader.skip(wireType, field);
    split = reader.pos;
  }
  return { name: spec.name, head: bytes.subarray(0, split), peers, tail: bytes.subarray(split) };
}

/** A network as it is, with its peers put in order. */
export function framesOf(spec: NetworkSpec): NetworkFrames {
  return networkFrames(spec, spec.peers.map(peerFrame).sort(byKey));
}

/** Serialised NetworkSpec. */
export function specBytes({ head, peers, tail }: NetworkFrames): Uint8Array {
  const parts = peers.map(({ field }) => field);
  parts.unshift(head);
  parts.push(tail);
  return Buffer.concat(parts);
}

/** SHA-256 of the serialised NetworkSpec. */
export function specHash(frames: NetworkFrames): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(specBytes(frames)).digest());
}

/** Takes a canonical full state apart. */
export function parseState(body: Uint8Array): NetworkFrames[] {
  const networks: NetworkFrames[] = [];
  for (const [field, bytes] of delimited(body)) if (field === NETWORKS.number) networks.push(parseSpec(bytes));
  return networks;
}

/** Puts a full state together: networks in the order of their names. */
export function stateBytes(networks: readonly NetworkFrames[]): Uint8Array {
  const writer = new BinaryWriter();
  for (const network of [...networks].sort((one, other) => (one.name < other.name ? -1 : 1))) {
    writer.tag(NETWORKS.number, WireType.LengthDelimited).bytes(specBytes(network));
  }
  return writer.finish();
}

/** The delta, serialised, that makes one full state of another. */
export function stateDelta(from: readonly NetworkFrames[], to: readonly NetworkFrames[]): Uint8Array {
  const before = new Map(from.map((network) => [network.name, network]));
  const whole = new BinaryWriter();
  const changed = new BinaryWriter();
  for (const network of to) {
    const old = before.get(network.name);
    before.delete(network.name);
    if (old !== undefined && same(old.head, network.head) && same(old.tail, network.tail)) {
      const delta = peerDelta(old, network);
      if (delta !== undefined) changed.tag(DELTAS.number, WireType.LengthDelimited).bytes(delta);
    } else whole.tag(NETWORKS.number, WireType.LengthDelimited).bytes(specBytes(network));
  }
  const removed = new BinaryWriter();
  for (const name of before.keys()) removed.tag(REMOVED.number, WireType.LengthDelimited).string(name);
  return Buffer.concat([whole.finish(), removed.finish(), changed.finish()]);
}

function peerDelta(from: NetworkFrames, to: NetworkFrames): Uint8Array | undefined {
  const before = new Map(from.peers.map(({ key, bytes }) => [key, bytes]));
  const put = to.peers.filter(({ key, bytes }) => {
    const old = before.get(key);
    before.delete(key);
    return old === undefined || !same(old, bytes);
  });
  if (put.length === 0 && before.size === 0) return undefined;
  const writer = new BinaryWriter().tag(DELTA_NETWORK.number, WireType.LengthDelimited).string(to.name);
  for (const { bytes } of put) writer.tag(DELTA_PUT.number, WireType.LengthDelimited).bytes(bytes);
  for (const key of before.keys()) writer.tag(DELTA_REMOVED.number, WireType.LengthDelimited).string(key);
  return writer.finish();
}

function parseSpec(bytes: Uint8Array): NetworkFrames {
  const reader = new BinaryReader(bytes);
  const peers: PeerFrame[] = [];
  let name = '';
  let headEnd = 0;
  let tailStart = 0;
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const [field, wireType] = reader.tag();
    if (field > PEERS) break;
    if (field === PEERS) {
      const peer = reader.bytes();
      peers.push({ key: textIn(peer, PUBLIC_KEY), bytes: peer, field: bytes.subarray(start, reader.pos) });
    } else if (field === NAME) name = reader.string();
    else reader.skip(wireType, field);
    if (field !== PEERS) headEnd = reader.pos;
    tailStart = reader.pos;
  }
  return { name, head: bytes.subarray(0, headEnd), peers, tail: bytes.subarray(tailStart) };
}

/** A text field of a message. */
function textIn(message: Uint8Array, wanted: number): string {
  for (const [field, bytes] of delimited(message)) if (field === wanted) return Buffer.from(bytes).toString('utf8');
  return '';
}

function* delimited(message: Uint8Array): Generator<readonly [number, Uint8Array]> {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (wireType === WireType.LengthDelimited) yield [field, reader.bytes()];
    else reader.skip(wireType, field);
  }
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return one === other || Buffer.compare(one, other) === 0;
}

function byKey(one: PeerFrame, other: PeerFrame): number {
  return one.key < other.key ? -1 : one.key > other.key ? 1 : 0;
}

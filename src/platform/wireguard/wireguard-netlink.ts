// What the kernel's WireGuard is told and tells: attributes of its family of generic netlink. Prefixes are only ever added, to
// whoever is to have them: replacing a peer's list would drop packets while it is done. Pure. Attributes carry private keys, so
// no error made here shows one.
import { isIP } from 'node:net';
import type { DeviceChange, FoundDevice, FoundPeer, PeerChange, PeerFields } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { parseAddress, parsePrefix } from '../../core/network/prefix.ts';
import { SecretKey } from '../../core/wireguard-keys.ts';
import { attribute, attributesOf, nested, u16, u32 } from './netlink.ts';

export const COMMAND = { get: 0, set: 1 } as const;
const DEVICE = { name: 2, privateKey: 3, publicKey: 4, listenPort: 6, fwmark: 7, peers: 8 } as const;
const PEER = {
  publicKey: 1,
  presharedKey: 2,
  flags: 3,
  endpoint: 4,
  keepalive: 5,
  lastHandshake: 6,
  receivedBytes: 7,
  sentBytes: 8,
  prefixes: 9,
} as const;
const PREFIX = { family: 1, address: 2, length: 3 } as const;
const REMOVE_ME = 1;
const UPDATE_ONLY = 4;
const AF_INET = 2;
const AF_INET6 = 10;
const VERSION = 1;
/** A list of peers can't be longer than the 16 bits of an attribute's length. */
const MAX_PEERS_BYTES = 60_000;
const PREFIXES_AT_ONCE = 1000;

/** A part of a change that WireGuard can't be told. */
export interface Unencodable {
  readonly publicKey: string;
  readonly field: 'endpoint';
}

/** What asks for an interface. */
export function encodeGet(name: string): Buffer {
  return message(COMMAND.get, [nameOf(name)]);
}

/** The messages that write a change, in order; at the first part that can't be written they end with what it is. */
export function* encodeChange(name: string, change: DeviceChange): Generator<Buffer | Unencodable> {
  let first: readonly Buffer[] = ownAttributes(change);
  let peers: Buffer[] = [];
  let size = 0;
  const flush = () => {
    const bytes = message(COMMAND.set, [
      nameOf(name),
      ...first,
      ...(peers.length > 0 ? [nested(DEVICE.peers, peers)] : []),
    ]);
    [first, peers, size] = [[], [], 0];
    return bytes;
  };
  for (const peer of change.peers) {
    for (const part of encodePeer(peer)) {
      if (!Buffer.isBuffer(part)) {
        if (first.length > 0 || peers.length > 0) yield flush();
        yield part;
        return;
      }
      if (size + part.length > MAX_PEERS_BYTES) yield flush();
      peers.push(part);
      size += part.length;
    }
  }
  if (first.length > 0 || peers.length > 0) yield flush();
}

function message(command: number, attributes: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.from([command, VERSION, 0, 0]), ...attributes]);
}

function nameOf(name: string): Buffer {
  return attribute(DEVICE.name, Buffer.from(`${name}\0`));
}

function ownAttributes({ fwmark, listenPort, privateKey }: DeviceChange): readonly Buffer[] {
  return [
    ...(privateKey === undefined ? [] : [attribute(DEVICE.privateKey, keyBytes(privateKey.reveal()))]),
    ...(listenPort === undefined ? [] : [attribute(DEVICE.listenPort, u16(listenPort))]),
    ...(fwmark === undefined ? [] : [attribute(DEVICE.fwmark, u32(fwmark))]),
  ];
}

/** A peer, in several parts if it has many prefixes: each of the later ones only adds to it. */
function* encodePeer(change: PeerChange): Generator<Buffer | Unencodable> {
  const key = attribute(PEER.publicKey, keyBytes(change.publicKey));
  const flags = (value: number) => attribute(PEER.flags, u32(value));
  if (change.kind === 'remove') return yield nested(0, [key, flags(REMOVE_ME)]);
  const { addPrefixes = [], endpoint } = change.fields;
  const address = endpoint === undefined ? undefined : encodeEndpoint(endpoint);
  if (endpoint !== undefined && address === undefined) {
    return yield { publicKey: change.publicKey, field: 'endpoint' };
  }
  yield nested(0, [
    key,
    ...(change.kind === 'update' ? [flags(UPDATE_ONLY)] : []),
    ...fieldAttributes(change.fields, address),
    ...prefixAttributes(addPrefixes.slice(0, PREFIXES_AT_ONCE)),
  ]);
  for (let from = PREFIXES_AT_ONCE; from < addPrefixes.length; from += PREFIXES_AT_ONCE) {
    yield nested(0, [key, flags(UPDATE_ONLY), ...prefixAttributes(addPrefixes.slice(from, from + PREFIXES_AT_ONCE))]);
  }
}

function fieldAttributes({ keepaliveSecs, presharedKey }: PeerFields, address: Buffer | undefined): readonly Buffer[] {
  const preshared = presharedKey === null ? Buffer.alloc(32) : presharedKey && keyBytes(presharedKey.reveal());
  return [
    ...(preshared === undefined ? [] : [attribute(PEER.presharedKey, preshared)]),
    ...(address === undefined ? [] : [attribute(PEER.endpoint, address)]),
    ...(keepaliveSecs === undefined ? [] : [attribute(PEER.keepalive, u16(keepaliveSecs))]),
  ];
}

function prefixAttributes(prefixes: readonly string[]): readonly Buffer[] {
  if (prefixes.length === 0) return [];
  const encoded = prefixes.map((prefix) => {
    const slash = prefix.indexOf('/');
    const address = addressBytes(prefix.slice(0, slash));
    return nested(0, [
      attribute(PREFIX.family, u16(address.length === 4 ? AF_INET : AF_INET6)),
      attribute(PREFIX.address, address),
      attribute(PREFIX.length, Buffer.from([Number(prefix.slice(slash + 1))])),
    ]);
  });
  return [nested(PEER.prefixes, encoded)];
}

function keyBytes(key: string): Buffer {
  return Buffer.from(key, 'base64');
}

/** Undefined if it is none. */
function encodeEndpoint(endpoint: string): Buffer | undefined {
  const colon = endpoint.lastIndexOf(':');
  const host = endpoint.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  const family = colon < 0 ? 0 : isIP(host);
  if (family === 0) return undefined;
  const bytes = Buffer.alloc(family === 4 ? 16 : 28);
  bytes.writeUInt16LE(family === 4 ? AF_INET : AF_INET6, 0);
  bytes.writeUInt16BE(Number(endpoint.slice(colon + 1)), 2);
  addressBytes(host).copy(bytes, family === 4 ? 4 : 8);
  return bytes;
}

function addressBytes(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const groups = (text: string) => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)));
  const before = groups(head);
  const behind = tail === undefined ? [] : groups(tail);
  const all = [...before, ...Array<number>(8 - before.length - behind.length).fill(0), ...behind];
  const bytes = Buffer.alloc(16);
  for (const [place, group] of all.entries()) bytes.writeUInt16BE(group, place * 2);
  return bytes;
}

/** What the replies to a get say, together. */
export function decodeDevice(replies: readonly Buffer[]): FoundDevice {
  const peers = new Map<string, FoundPeer & { readonly prefixes: Set<string> }>();
  let publicKey: string | undefined;
  let listenPort = 0;
  let fwmark = 0;
  for (const reply of replies) {
    for (const [type, value] of attributesOf(reply.subarray(4))) {
      if (type === DEVICE.publicKey) publicKey = value.toString('base64');
      else if (type === DEVICE.listenPort) listenPort = value.readUInt16LE();
      else if (type === DEVICE.fwmark) fwmark = value.readUInt32LE();
      else if (type === DEVICE.peers) for (const [, peer] of attributesOf(value)) addPeer(peers, peer);
    }
  }
  return { publicKey, listenPort: listenPort || undefined, fwmark, peers };
}

/** A peer that doesn't fit into one message comes again in the next, with its key and the rest of its prefixes. */
function addPeer(peers: Map<string, FoundPeer & { readonly prefixes: Set<string> }>, bytes: Buffer): void {
  const found = new Map(attributesOf(bytes));
  const publicKey = found.get(PEER.publicKey)?.toString('base64');
  if (publicKey === undefined) throw new LonglineError('internal', 'the kernel sent a peer without a key');
  const prefixes = [...attributesOf(found.get(PEER.prefixes) ?? Buffer.alloc(0))].map(([, prefix]) =>
    decodePrefix(prefix),
  );
  const known = peers.get(publicKey);
  if (known !== undefined) {
    for (const prefix of prefixes) known.prefixes.add(prefix);
    return;
  }
  const handshake = found.get(PEER.lastHandshake);
  const handshakeMs =
    handshake === undefined
      ? 0
      : Number(handshake.readBigInt64LE(0)) * 1000 + Math.floor(Number(handshake.readBigInt64LE(8)) / 1e6);
  peers.set(publicKey, {
    publicKey,
    // All zero, as the kernel says that there is none, is no key.
    presharedKey: SecretKey.parse(found.get(PEER.presharedKey)?.toString('base64') ?? ''),
    endpoint: decodeEndpoint(found.get(PEER.endpoint)),
    keepaliveSecs: found.get(PEER.keepalive)?.readUInt16LE() ?? 0,
    prefixes: new Set(prefixes),
    lastHandshakeMs: handshakeMs === 0 ? undefined : handshakeMs,
    receivedBytes: Number(found.get(PEER.receivedBytes)?.readBigUInt64LE() ?? 0n),
    sentBytes: Number(found.get(PEER.sentBytes)?.readBigUInt64LE() ?? 0n),
  });
}

function decodePrefix(bytes: Buffer): string {
  const found = new Map(attributesOf(bytes));
  const address = found.get(PREFIX.address);
  const length = found.get(PREFIX.length)?.readUInt8();
  if (address === undefined || length === undefined) {
    throw new LonglineError('internal', 'the kernel sent a prefix without an address');
  }
  const text = `${addressText(address)}/${length}`;
  return address.length === 4 ? text : (parsePrefix(text) ?? text);
}

function decodeEndpoint(bytes: Buffer | undefined): string | undefined {
  if (bytes === undefined || bytes.length < 16) return undefined;
  const family = bytes.readUInt16LE(0);
  const port = bytes.readUInt16BE(2);
  if (family === AF_INET) return `${addressText(bytes.subarray(4, 8))}:${port}`;
  if (family !== AF_INET6 || bytes.length < 28) return undefined;
  const address = addressText(bytes.subarray(8, 24));
  return `[${parseAddress(address) ?? address}]:${port}`;
}

function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  return Array.from({ length: 8 }, (_, place) => bytes.readUInt16BE(place * 2).toString(16)).join(':');
}

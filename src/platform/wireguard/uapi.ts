// The text that user-space WireGuards are configured with: lines of key=value, a blank line, and errno=N in the reply. Pure.
// Replies carry private keys, so no error made here shows a line of one.
import type { DeviceChange, FoundDevice, FoundPeer, PeerChange, PeerFields } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { parsePublicKey, SecretKey } from '../../core/wireguard-keys.ts';

/** In what implementations differ. */
export interface UapiQuirks {
  /** Each set may name one peer, since fields leak into the next; and a peer can't be updated, only removed and added. */
  readonly onePeerPerSet: boolean;
  /** The time of the last handshake is how long ago it was. */
  readonly handshakeIsAge: boolean;
}

/** wireguard-go, and whatever keeps to the protocol as it does. */
export const PLAIN: UapiQuirks = { onePeerPerSet: false, handshakeIsAge: false };
export const BORINGTUN: UapiQuirks = { onePeerPerSet: true, handshakeIsAge: true };

export const GET = 'get=1\n\n';

/** Refused by all before anything is changed; the sign of the error tells which one it is. */
export const PROBE = 'set=1\nlisten_port=none\n\n';

/** wireguard-go answers with negative numbers, boringtun with positive ones. */
export function quirksOf(probeErrno: number): UapiQuirks {
  return probeErrno < 0 ? PLAIN : BORINGTUN;
}

/** The operations that write a change, in order, each to be sent alone. */
export function encodeChange(change: DeviceChange, quirks: UapiQuirks): readonly string[] {
  const own: string[] = [];
  if (change.privateKey !== undefined) own.push(`private_key=${hex(change.privateKey.reveal())}`);
  if (change.listenPort !== undefined) own.push(`listen_port=${change.listenPort}`);
  if (change.fwmark !== undefined) own.push(`fwmark=${change.fwmark}`);
  const peers = quirks.onePeerPerSet ? change.peers.flatMap(renewPeer) : change.peers.map(peerLines);
  const sets = quirks.onePeerPerSet ? [own, ...peers] : [[...own, ...peers.flat()]];
  return sets.filter((lines) => lines.length > 0).map((lines) => `set=1\n${lines.join('\n')}\n\n`);
}

function peerLines(change: PeerChange): string[] {
  const publicKey = `public_key=${hex(change.publicKey)}`;
  // update_only counts only right behind the key; without it a removal would first make the peer that it removes.
  if (change.kind === 'remove') return [publicKey, 'update_only=true', 'remove=true'];
  return [publicKey, ...(change.kind === 'update' ? ['update_only=true'] : []), ...fieldLines(change.fields)];
}

function renewPeer(change: PeerChange): string[][] {
  const publicKey = `public_key=${hex(change.publicKey)}`;
  const remove = [publicKey, 'remove=true'];
  if (change.kind === 'remove') return [remove];
  const { whole } = change;
  const fields: PeerFields = {
    ...(whole.presharedKey === undefined ? {} : { presharedKey: whole.presharedKey }),
    ...(whole.endpoint === undefined ? {} : { endpoint: whole.endpoint }),
    ...(whole.keepaliveSecs === 0 ? {} : { keepaliveSecs: whole.keepaliveSecs }),
    addPrefixes: [...whole.prefixes],
  };
  const add = [publicKey, ...fieldLines(fields)];
  return change.kind === 'add' ? [add] : [remove, add];
}

function fieldLines(fields: PeerFields): string[] {
  const { addPrefixes = [], endpoint, keepaliveSecs, presharedKey } = fields;
  const lines: string[] = [];
  if (presharedKey === null) lines.push(`preshared_key=${'0'.repeat(64)}`);
  else if (presharedKey !== undefined) lines.push(`preshared_key=${hex(presharedKey.reveal())}`);
  if (endpoint !== undefined) lines.push(`endpoint=${endpoint}`);
  if (keepaliveSecs !== undefined) lines.push(`persistent_keepalive_interval=${keepaliveSecs}`);
  for (const prefix of addPrefixes) lines.push(`allowed_ip=${prefix}`);
  return lines;
}

/** The errno that ends a reply. */
export function errnoOf(reply: string): number {
  const match = /(?:^|\n)errno=(-?\d{1,5})\n\n$/.exec(reply.slice(-32));
  if (match === null) throw malformed('errno');
  return Number(match[1]);
}

/** What the reply to a get says. */
export function decodeDevice(reply: string, quirks: UapiQuirks, nowMs: number): FoundDevice {
  const own: Fields = new Map();
  const sections: Fields[] = [];
  let fields = own;
  for (const line of reply.split('\n')) {
    const equals = line.indexOf('=');
    if (equals <= 0) continue;
    const key = line.slice(0, equals);
    if (key === 'errno') continue;
    if (key === 'public_key') {
      fields = new Map();
      sections.push(fields);
    }
    const values = fields.get(key);
    if (values === undefined) fields.set(key, [line.slice(equals + 1)]);
    else values.push(line.slice(equals + 1));
  }
  const peers = sections.map((section) => decodePeer(section, quirks, nowMs));
  return {
    publicKey: ownKey(own),
    listenPort: number(own, 'listen_port') || undefined,
    fwmark: number(own, 'fwmark'),
    peers: new Map(peers.map((peer) => [peer.publicKey, peer])),
  };
}

type Fields = Map<string, string[]>;

function ownKey(own: Fields): string | undefined {
  const shown = own.get('own_public_key')?.[0];
  if (shown !== undefined) return publicKeyOf('own_public_key', shown);
  return secret(own, 'private_key')?.publicKey();
}

function decodePeer(fields: Fields, quirks: UapiQuirks, nowMs: number): FoundPeer {
  const handshake =
    number(fields, 'last_handshake_time_sec') * 1000 + Math.floor(number(fields, 'last_handshake_time_nsec') / 1e6);
  const never = quirks.handshakeIsAge ? !fields.has('last_handshake_time_sec') : handshake === 0;
  return {
    publicKey: publicKeyOf('public_key', fields.get('public_key')![0]!),
    presharedKey: secret(fields, 'preshared_key'),
    endpoint: fields.get('endpoint')?.[0],
    keepaliveSecs: number(fields, 'persistent_keepalive_interval'),
    prefixes: new Set(fields.get('allowed_ip')),
    lastHandshakeMs: never ? undefined : quirks.handshakeIsAge ? nowMs - handshake : handshake,
    receivedBytes: number(fields, 'rx_bytes'),
    sentBytes: number(fields, 'tx_bytes'),
  };
}

function number(fields: Fields, key: string): number {
  const text = fields.get(key)?.[0] ?? '0';
  if (!/^\d{1,20}$/.test(text)) throw malformed(key);
  return Number(text);
}

function secret(fields: Fields, key: string): SecretKey | undefined {
  const text = fields.get(key)?.[0];
  // All zero is how WireGuard says that there is none.
  if (text === undefined || /^0{64}$/.test(text)) return undefined;
  return SecretKey.parse(base64(key, text));
}

function publicKeyOf(key: string, text: string): string {
  const parsed = parsePublicKey(base64(key, text));
  if (parsed === undefined) throw malformed(key);
  return parsed;
}

function base64(key: string, text: string): string {
  if (!/^[0-9a-f]{64}$/i.test(text)) throw malformed(key);
  return Buffer.from(text, 'hex').toString('base64');
}

function hex(key: string): string {
  return Buffer.from(key, 'base64').toString('hex');
}

function malformed(key: string): LonglineError {
  return new LonglineError('internal', `the reply of WireGuard has a malformed ${key}`);
}

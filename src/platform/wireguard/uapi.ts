// The text that user-space WireGuards are configured with: lines of key=value, a blank line, and errno=N in the reply. Pure.
// Replies carry private keys, so no error made here shows a line of one.
import type { DeviceChange, FoundDevice, FoundPeer, PeerChange, PeerFields } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { SecretKey } from '../../core/wireguard-keys.ts';

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

/** Taken by all, and changes nothing. */
export const NOTHING = 'set=1\n\n';

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
  if (change.kind === 'add' && change.fields.greet) return greetingLines(publicKey, change.fields);
  return [publicKey, ...(change.kind === 'update' ? ['update_only=true'] : []), ...fieldLines(change.fields)];
}

/** Keepalives that are switched on send one at once. A peer only works from the end of its first section on. */
function greetingLines(publicKey: string, { addPrefixes = [], keepaliveSecs = 0, ...rest }: PeerFields): string[] {
  const section = (fields: PeerFields) => [publicKey, 'update_only=true', ...fieldLines(fields)];
  const lines = [publicKey, ...fieldLines(rest)];
  if (keepaliveSecs > 0) return [...lines, ...section({ addPrefixes, keepaliveSecs })];
  return [...lines, ...section({ addPrefixes, keepaliveSecs: ANY_SECS }), ...section({ keepaliveSecs })];
}

const ANY_SECS = 65_535;

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

/** What the reply to a get says. That of a large interface has megabytes, so it is walked once and never split. */
export function decodeDevice(reply: string, quirks: UapiQuirks, nowMs: number): FoundDevice {
  const own: Section = { fields: new Map(), prefixes: [] };
  const sections: Section[] = [];
  let section = own;
  for (let start = 0; start < reply.length; ) {
    const newline = reply.indexOf('\n', start);
    const end = newline < 0 ? reply.length : newline;
    const equals = reply.indexOf('=', start);
    if (equals > start && equals < end) {
      const key = reply.slice(start, equals);
      const value = reply.slice(equals + 1, end);
      if (key === 'public_key') {
        section = { fields: new Map(), prefixes: [] };
        sections.push(section);
      }
      if (key === 'allowed_ip') section.prefixes.push(value);
      else section.fields.set(key, value);
    }
    start = end + 1;
  }
  const peers = new Map<string, FoundPeer>();
  for (const one of sections) {
    const peer = decodePeer(one, quirks, nowMs);
    peers.set(peer.publicKey, peer);
  }
  return {
    publicKey: ownKey(own.fields),
    listenPort: number(own.fields, 'listen_port') || undefined,
    fwmark: number(own.fields, 'fwmark'),
    peers,
  };
}

type Fields = Map<string, string>;

/** The interface itself, or one peer. */
interface Section {
  readonly fields: Fields;
  readonly prefixes: string[];
}

function ownKey(own: Fields): string | undefined {
  const shown = own.get('own_public_key');
  if (shown !== undefined) return publicKeyOf('own_public_key', shown);
  return secret(own, 'private_key')?.publicKey();
}

function decodePeer({ fields, prefixes }: Section, quirks: UapiQuirks, nowMs: number): FoundPeer {
  const handshake =
    number(fields, 'last_handshake_time_sec') * 1000 + Math.floor(number(fields, 'last_handshake_time_nsec') / 1e6);
  const never = quirks.handshakeIsAge ? !fields.has('last_handshake_time_sec') : handshake === 0;
  return {
    publicKey: publicKeyOf('public_key', fields.get('public_key')!),
    presharedKey: secret(fields, 'preshared_key'),
    endpoint: fields.get('endpoint'),
    keepaliveSecs: number(fields, 'persistent_keepalive_interval'),
    prefixes: new Set(prefixes),
    lastHandshakeMs: never ? undefined : quirks.handshakeIsAge ? nowMs - handshake : handshake,
    receivedBytes: number(fields, 'rx_bytes'),
    sentBytes: number(fields, 'tx_bytes'),
  };
}

function number(fields: Fields, key: string): number {
  const text = fields.get(key);
  if (text === undefined || text === '0') return 0;
  if (!/^\d{1,20}$/.test(text)) throw malformed(key);
  return Number(text);
}

/** All zero is how WireGuard says that there is no key. */
const NO_KEY = '0'.repeat(64);

function secret(fields: Fields, key: string): SecretKey | undefined {
  const text = fields.get(key);
  return text === undefined || text === NO_KEY ? undefined : SecretKey.parse(base64(key, text));
}

function publicKeyOf(key: string, text: string): string {
  if (text === NO_KEY) throw malformed(key);
  return base64(key, text);
}

function base64(key: string, text: string): string {
  if (text.length !== 64) throw malformed(key);
  const bytes = Buffer.from(text, 'hex');
  // What isn't hexadecimal ends it early.
  if (bytes.length !== 32) throw malformed(key);
  return bytes.toString('base64');
}

function hex(key: string): string {
  return Buffer.from(key, 'base64').toString('hex');
}

function malformed(key: string): LonglineError {
  return new LonglineError('internal', `the reply of WireGuard has a malformed ${key}`);
}

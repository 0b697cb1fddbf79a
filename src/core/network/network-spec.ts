// A WireGuard network as it is asked for: complete, canonical and within bounds, or refused with every wrong field. Pure.
// Keys that are secret are named here by path only; the network capability joins them to it.

import { crc32c } from '../crc32c.ts';
import { parsePublicKey } from '../wireguard-keys.ts';
import { endpointForm, parseEndpoint } from './endpoint.ts';
import { DNS_BACKENDS, type DnsBackend, domainForm, parseDnsBackend, parseDomain } from './name-servers.ts';
import {
  coveringPrefixes,
  isDefaultPrefix,
  lengthsOf,
  parseAddress,
  parseInterfaceAddress,
  parsePrefix,
} from './prefix.ts';

/** What WireGuard holds at most on one interface. */
export const MAX_PEERS = 65_536;
/** The least that IPv6 allows. WireGuard adds up to 80 bytes to a packet, so 1420 fits in an Ethernet frame. */
export const MIN_MTU = 1280;
/** What fits in an IPv4 packet with WireGuard's own bytes around it. */
export const MAX_MTU = 65_455;
export const DEFAULT_MTU = 1420;
/** Clear of the bits that Kubernetes (0x4000, 0x8000), Tailscale (0xff0000) and Cilium (0x0f00) give a meaning to. */
const FIRST_MARK = 0x2000;
const MARKS = 0x100;

/** WireGuards that can carry an interface. */
export const BACKENDS = ['kernel', 'wireguard-go', 'boringtun'] as const;
export type Backend = (typeof BACKENDS)[number];
/** `auto`: the kernel's if it works, else one in user space. */
export type BackendChoice = 'auto' | Backend;

/** Notes that a field is wrong, or that something about it should be known. */
export type Note = (field: string, description: string) => void;

/** A network as somebody wrote it. Fields are named in messages as in the file: listen_port, peers[3].allowed_ips[0]. */
export interface NetworkDraft {
  readonly name: string;
  readonly interface?: string | undefined;
  readonly privateKeyPath?: string | undefined;
  readonly addresses?: readonly string[] | undefined;
  readonly listenPort?: number | undefined;
  readonly mtu?: number | undefined;
  readonly dns?: readonly string[] | undefined;
  readonly dnsDomains?: readonly string[] | undefined;
  readonly dnsBackend?: string | undefined;
  readonly natSubnets?: readonly string[] | undefined;
  readonly forward?: boolean | undefined;
  readonly routes?: readonly string[] | undefined;
  readonly table?: string | undefined;
  readonly fwmark?: number | undefined;
  readonly keyEpoch?: number | undefined;
  readonly nextKeyEpoch?: number | undefined;
  readonly backend?: string | undefined;
  readonly foreignPeers?: string | undefined;
  readonly adoptInterface?: boolean | undefined;
  readonly peers: readonly PeerDraft[];
}

/** A peer as somebody wrote it. */
export interface PeerDraft {
  readonly name?: string | undefined;
  readonly publicKey?: string | undefined;
  readonly presharedKeyPath?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly allowedIps?: readonly string[] | undefined;
  readonly keepaliveSecs?: number | undefined;
}

/** A network with nothing left open. Addresses and prefixes are canonical. */
export interface NetworkSpec {
  readonly name: string;
  readonly interface: string;
  /** File of the key of epoch 0; undefined for one that the host makes and keeps. */
  readonly privateKeyPath: string | undefined;
  /** Which of the host's keys is in use. */
  readonly keyEpoch: number;
  /** A further key to have ready; the same for none. */
  readonly nextKeyEpoch: number;
  readonly addresses: readonly string[];
  /** Undefined leaves it to WireGuard. */
  readonly listenPort: number | undefined;
  readonly mtu: number;
  readonly dns: readonly string[];
  /** Searched, and asked for at `dns`; with "~" in front only asked for there. None: all names are asked for there. */
  readonly dnsDomains: readonly string[];
  readonly dnsBackend: DnsBackend;
  /** Packets that others send from here leave through the interface under its own address. */
  readonly natSubnets: readonly string[];
  /** True: this host passes packets on between the interface and others, as it has to for `natSubnets`. */
  readonly forward: boolean;
  /** Beside those that follow from the peers' prefixes. */
  readonly routes: readonly string[];
  /** Routing table; 'off' sets no routes. */
  readonly table: 'main' | 'off' | number;
  /** 0 marks nothing. Never 0 where the main table is to have the default route. */
  readonly fwmark: number;
  readonly backend: BackendChoice;
  /** What becomes of peers that somebody else put there. */
  readonly foreignPeers: 'keep' | 'own';
  /** True to take over an interface that somebody else made. */
  readonly adoptInterface: boolean;
  readonly peers: readonly PeerSpec[];
}

/** A peer with nothing left open. */
export interface PeerSpec {
  /** For people; empty if none was given. */
  readonly name: string;
  readonly publicKey: string;
  readonly presharedKeyPath: string | undefined;
  /** Host name or address, and port; undefined for a peer that comes to us. */
  readonly endpoint: string | undefined;
  /** Each belongs to this peer alone. */
  readonly prefixes: readonly string[];
  /** 0 sends none. */
  readonly keepaliveSecs: number;
}

/** Completes and checks a draft. What it returns is to be used only if nothing was refused. */
export function checkNetwork(draft: NetworkDraft, refuse: Note, warn: Note): NetworkSpec {
  const within = (field: string, value: number | undefined, fallback: number, least: number, most: number) => {
    if (value === undefined) return fallback;
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    refuse(field, `${value} is out of range; a whole number from ${least} to ${most} is allowed`);
    return fallback;
  };
  const all = (field: string, given: readonly string[] | undefined, read: Read, form: string) =>
    readAll(field, given ?? [], read, form, refuse);
  const { keyEpoch = 0, privateKeyPath: path } = draft;
  const peers = checkPeers(draft.peers, within, refuse, warn);
  const routes = all('routes', draft.routes, parsePrefix, PREFIX_FORM);
  const table = tableOf(draft.table, refuse);
  if (table === 'main') warnOfLoops(peers, routes, warn);
  const hasDefault =
    table === 'main' && [routes, ...peers.map(({ prefixes }) => prefixes)].flat().some(isDefaultPrefix);
  return {
    name: networkName(draft.name, refuse),
    interface: interfaceName(draft.interface, refuse),
    privateKeyPath: path === undefined ? undefined : keyPath('private_key_path', path, refuse),
    keyEpoch,
    nextKeyEpoch: draft.nextKeyEpoch ?? keyEpoch,
    addresses: all('addresses', draft.addresses, parseInterfaceAddress, 'an address such as "10.42.0.7/16"'),
    listenPort: draft.listenPort === undefined ? undefined : within('listen_port', draft.listenPort, 0, 1, 65_535),
    mtu: within('mtu', draft.mtu, DEFAULT_MTU, MIN_MTU, MAX_MTU),
    ...checkDns(draft, all, refuse),
    ...checkForwarding(draft, all),
    routes,
    table,
    fwmark: markOf(within('fwmark', draft.fwmark, 0, 0, 0xffff_ffff), hasDefault, draft.interface ?? '', refuse),
    backend: oneOf('backend', draft.backend, ['auto', ...BACKENDS], refuse),
    foreignPeers: oneOf('foreign_peers', draft.foreignPeers, ['keep', 'own'], refuse),
    adoptInterface: draft.adoptInterface ?? false,
    peers,
  };
}

type Read = (text: string) => string | undefined;
type ReadList = (field: string, given: readonly string[] | undefined, read: Read, form: string) => readonly string[];
type Within = (field: string, value: number | undefined, fallback: number, least: number, most: number) => number;

const PREFIX_FORM = 'a prefix such as "10.42.0.0/16" or "fd42:1::/48"';

function readAll(field: string, given: readonly string[], read: Read, form: string, refuse: Note): readonly string[] {
  const values = new Set<string>();
  for (const [place, text] of given.entries()) {
    const value = read(text);
    if (value === undefined) refuse(`${field}[${place}]`, `"${text.slice(0, 100)}" isn't ${form}`);
    else values.add(value);
  }
  return [...values];
}

function networkName(name: string, refuse: Note): string {
  if (/^[A-Za-z0-9_.-]{1,63}$/.test(name)) return name;
  refuse('name', `"${name.slice(0, 100)}" must be 1 to 63 of letters, digits, "_", "." and "-"`);
  return '';
}

/** One of the words; the first if nothing was said. */
function oneOf<Word extends string>(
  field: string,
  given: string | undefined,
  words: readonly [Word, ...Word[]],
  refuse: Note,
): Word {
  const found = given === undefined ? words[0] : words.find((word) => word === given);
  if (found === undefined) refuse(field, `"${given!.slice(0, 100)}" must be one of ${words.join(', ')}`);
  return found ?? words[0];
}

function interfaceName(name: string | undefined, refuse: Note): string {
  // What Linux takes for a name: 15 bytes, and neither "." nor "..". The rest would be trouble in paths and commands.
  if (name !== undefined && /^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/.test(name)) return name;
  const form = 'letters, digits, "_", "." and "-", at most 15 and a letter or digit first, for example "wg0"';
  refuse('interface', name === undefined ? `missing; must be ${form}` : `"${name.slice(0, 100)}" must be ${form}`);
  return '';
}

function keyPath(field: string, path: string, refuse: Note): string {
  if (path.startsWith('/')) return path;
  // The value isn't shown: the likeliest mistake is the key itself in place of its path.
  refuse(field, 'must be the absolute path of a file that holds the key');
  return path;
}

function tableOf(text: string | undefined, refuse: Note): NetworkSpec['table'] {
  if (text === undefined || text === 'main' || text === '254') return 'main';
  if (text === 'off') return text;
  if (/^[1-9]\d{0,9}$/.test(text) && Number(text) <= 0xffff_ffff && text !== '255') return Number(text);
  refuse(
    'table',
    `"${text.slice(0, 100)}" must be "main", "off" or the number of a routing table from 1, but not 255, the system's`,
  );
  return 'main';
}

/** The mark is that of the table too where the network has the default route. */
function markOf(given: number, hasDefault: boolean, interfaceName: string, refuse: Note): number {
  if (!hasDefault) return given;
  if (given >= 253 && given <= 255) {
    refuse(
      'fwmark',
      `${given} is the number of a table of the system's; with a default route the mark names a table too`,
    );
  }
  return given === 0 ? FIRST_MARK + (crc32c(Buffer.from(interfaceName)) % MARKS) : given;
}

function checkDns(draft: NetworkDraft, all: ReadList, refuse: Note) {
  const dns = all('dns', draft.dns, parseAddress, 'the address of a name server such as "10.100.0.2"');
  const dnsDomains = all('dns_domains', draft.dnsDomains, parseDomain, domainForm);
  const dnsBackend = parseDnsBackend(draft.dnsBackend ?? 'auto');
  if (dnsBackend === undefined) {
    refuse('dns_backend', `"${draft.dnsBackend!.slice(0, 100)}" must be one of ${DNS_BACKENDS.join(', ')}`);
  }
  if (dnsDomains.length > 0 && (draft.dns ?? []).length === 0) {
    refuse('dns_domains', 'there is nobody to ask for them: dns names no server');
  }
  return { dns, dnsDomains, dnsBackend: dnsBackend ?? 'auto' } as const;
}

function checkForwarding(draft: NetworkDraft, all: ReadList) {
  const natSubnets = all('nat_subnets', draft.natSubnets, parsePrefix, PREFIX_FORM);
  return { natSubnets, forward: draft.forward === true || natSubnets.length > 0 };
}

function checkPeers(drafts: readonly PeerDraft[], within: Within, refuse: Note, warn: Note): readonly PeerSpec[] {
  if (drafts.length > MAX_PEERS) {
    refuse('peers', `${drafts.length} peers are too many; an interface holds ${MAX_PEERS}`);
    return [];
  }
  const placeOfKey = new Map<string, number>();
  const peers = drafts.map((draft, place) => {
    const peer = checkPeer(draft, `peers[${place}]`, within, refuse);
    const twin = placeOfKey.get(peer.publicKey);
    if (peer.publicKey === '') return peer;
    if (twin === undefined) placeOfKey.set(peer.publicKey, place);
    else
      refuse(`peers[${place}].public_key`, `${peer.publicKey} is also that of peers[${twin}]; a peer is listed once`);
    return peer;
  });
  return settlePrefixes(peers, warn);
}

function checkPeer(draft: PeerDraft, at: string, within: Within, refuse: Note): PeerSpec {
  const publicKey = draft.publicKey === undefined ? undefined : parsePublicKey(draft.publicKey);
  if (publicKey === undefined) {
    const got = draft.publicKey === undefined ? 'missing' : `${draft.publicKey.length} characters that are no key`;
    refuse(`${at}.public_key`, `${got}; must be 32 bytes, not all zero, as 44 characters of base64`);
  }
  const endpoint = draft.endpoint === undefined ? undefined : parseEndpoint(draft.endpoint);
  if (draft.endpoint !== undefined && endpoint === undefined) {
    refuse(`${at}.endpoint`, `"${draft.endpoint.slice(0, 300)}" isn't ${endpointForm}`);
  }
  const path = draft.presharedKeyPath;
  return {
    name: draft.name ?? '',
    publicKey: publicKey ?? '',
    presharedKeyPath: path === undefined ? undefined : keyPath(`${at}.preshared_key_path`, path, refuse),
    endpoint,
    prefixes: readAll(`${at}.allowed_ips`, draft.allowedIps ?? [], parsePrefix, PREFIX_FORM, refuse),
    keepaliveSecs: within(`${at}.persistent_keepalive_secs`, draft.keepaliveSecs, 0, 0, 65_535),
  };
}

/** Packets to an endpoint that lies in a routed prefix go into the tunnel that they are to carry. */
function warnOfLoops(peers: readonly PeerSpec[], routes: readonly string[], warn: Note): void {
  const routed = new Set([...routes, ...peers.flatMap(({ prefixes }) => prefixes)]);
  const lengths = lengthsOf(routed);
  for (const [place, { endpoint }] of peers.entries()) {
    const host = endpoint === undefined ? undefined : parsePrefix(endpoint.replace(/:\d+$/, '').replace(/[[\]]/g, ''));
    if (host === undefined) continue;
    // A default route is behind a mark, and loops nothing.
    const wider = [host, ...coveringPrefixes(host, lengths)].find(
      (prefix) => routed.has(prefix) && !isDefaultPrefix(prefix),
    );
    if (wider === undefined) continue;
    warn(
      `peers[${place}].endpoint`,
      `lies in ${wider}, which is routed into the tunnel: unless this host has a longer route there, its packets loop`,
    );
  }
}

/**
 * Gives every prefix to one peer. The same prefix at two: the later has it, as if both had been written to WireGuard in
 * order. One inside another: the longer has what it covers, which is how WireGuard looks addresses up.
 */
function settlePrefixes(peers: readonly PeerSpec[], warn: Note): readonly PeerSpec[] {
  const owner = new Map<string, number>();
  for (const [place, peer] of peers.entries()) {
    for (const prefix of peer.prefixes) {
      const before = owner.get(prefix);
      if (before !== undefined) {
        warn(`peers[${before}].allowed_ips`, `${prefix} is also that of peers[${place}], which, being later, has it`);
      }
      owner.set(prefix, place);
    }
  }
  const lengths = lengthsOf(owner.keys());
  for (const [prefix, place] of owner) {
    for (const wider of coveringPrefixes(prefix, lengths)) {
      const other = owner.get(wider);
      if (other === undefined || other === place) continue;
      warn(`peers[${place}].allowed_ips`, `${prefix} lies in ${wider} of peers[${other}]; being longer, it wins there`);
      break;
    }
  }
  return peers.map((peer, place) => ({
    ...peer,
    prefixes: peer.prefixes.filter((prefix) => owner.get(prefix) === place),
  }));
}

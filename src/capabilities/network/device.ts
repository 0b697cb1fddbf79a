// A WireGuard interface as WireGuard sees it: the same form for what is wanted and for what is found, so that the two can be
// compared field by field. Pure.
import { type FieldViolation, invalid } from '../../core/errors.ts';
import { isResolved } from '../../core/network/endpoint.ts';
import type { NetworkSpec, PeerSpec } from '../../core/network/network-spec.ts';
import type { SecretKey } from '../../core/wireguard-keys.ts';

/** A peer in either role. */
export interface PeerState {
  readonly publicKey: string;
  readonly presharedKey: SecretKey | undefined;
  /** Address and port, resolved. Wanted: undefined leaves alone what is there. */
  readonly endpoint: string | undefined;
  readonly keepaliveSecs: number;
  readonly prefixes: ReadonlySet<string>;
}

/** The interface that is wanted. */
export interface WantedDevice {
  readonly privateKey: SecretKey;
  /** Undefined leaves alone what is there. */
  readonly listenPort: number | undefined;
  readonly fwmark: number;
  /** By public key. */
  readonly peers: ReadonlyMap<string, PeerState>;
}

/** A peer as it is found. */
export interface FoundPeer extends PeerState {
  /** Milliseconds since the epoch; undefined if there was none yet. */
  readonly lastHandshakeMs: number | undefined;
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

/** As much of an interface as a plan is made from. */
export interface KnownDevice {
  /**
   * The own key by its public half; undefined if it has none yet. The private one would not compare: WireGuard stores it
   * with bits set and cleared as the curve wants them, and boringtun doesn't give it out.
   */
  readonly publicKey: string | undefined;
  readonly listenPort: number | undefined;
  readonly fwmark: number;
  readonly peers: ReadonlyMap<string, PeerState>;
}

/** The interface that is found. */
export interface FoundDevice extends KnownDevice {
  readonly peers: ReadonlyMap<string, FoundPeer>;
}

/** What a spec only names: read and resolved by the caller. */
export interface ResolvedParts {
  readonly privateKey: SecretKey;
  /** By path. */
  readonly presharedKeys: ReadonlyMap<string, SecretKey>;
  /** By endpoint as the spec has it; a name that can't be resolved now is absent, and its peer waits without one. */
  readonly endpoints: ReadonlyMap<string, string>;
}

/** The interface that a spec asks for. Throws `invalid` if a peer is the host itself, or a key wasn't read. */
export function wantedDevice(spec: NetworkSpec, parts: ResolvedParts): WantedDevice {
  const violations: FieldViolation[] = [];
  const ownKey = parts.privateKey.publicKey();
  const peers = new Map<string, PeerState>();
  const carrying = new Set(spec.peers.filter(({ prefixes }) => prefixes.length > 0).map(({ name }) => name));
  for (const [place, peer] of spec.peers.entries()) {
    if (isNextKey(peer, carrying)) continue;
    const at = `peers[${place}]`;
    if (peer.publicKey === ownKey) {
      // WireGuard would ignore such a peer without a word.
      violations.push({
        field: `${at}.public_key`,
        description: `${ownKey} is this host's own; a peer is another host`,
      });
    }
    const { endpoint, keepaliveSecs, presharedKeyPath: path, publicKey } = peer;
    const presharedKey = path === undefined ? undefined : parts.presharedKeys.get(path);
    if (path !== undefined && presharedKey === undefined) {
      violations.push({ field: `${at}.preshared_key_path`, description: 'its key was not read' });
    }
    peers.set(publicKey, {
      publicKey,
      presharedKey,
      endpoint: endpoint === undefined || isResolved(endpoint) ? endpoint : parts.endpoints.get(endpoint),
      keepaliveSecs,
      prefixes: new Set(peer.prefixes),
    });
  }
  if (violations.length > 0) throw invalid(violations);
  return { privateKey: parts.privateKey, listenPort: spec.listenPort, fwmark: spec.fwmark, peers };
}

/**
 * True for a key that a host is to take, or has given up: another of its name has the prefixes. WireGuard isn't told of it. A host
 * that takes it would be answered and send what is dropped for want of prefixes; unanswered, it holds back what it has to send.
 */
function isNextKey({ name, prefixes }: PeerSpec, carrying: ReadonlySet<string>): boolean {
  return name !== '' && prefixes.length === 0 && carrying.has(name);
}

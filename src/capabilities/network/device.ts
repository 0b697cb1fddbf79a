// A WireGuard interface as WireGuard sees it: the same form for what is wanted and for what is found, so that the two can be
// compared field by field. Pure.
import { type FieldViolation, invalid } from '../../core/errors.ts';
import { isResolved } from './endpoint.ts';
import type { SecretKey } from './keys.ts';
import type { NetworkSpec } from './spec.ts';

/** A peer in either role. */
export interface PeerState {
  readonly publicKey: string;
  readonly presharedKey: SecretKey | undefined;
  /** Address and port, resolved. Wanted: undefined leaves alone what is there. */
  readonly endpoint: string | undefined;
  readonly keepaliveSecs: number;
  readonly prefixes: ReadonlySet<string>;
}

/** An interface in either role. */
export interface DeviceState {
  /** Found: undefined if it has none yet. */
  readonly privateKey: SecretKey | undefined;
  /** Wanted: undefined leaves alone what is there. */
  readonly listenPort: number | undefined;
  readonly fwmark: number;
  /** By public key. */
  readonly peers: ReadonlyMap<string, PeerState>;
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
export function wantedDevice(spec: NetworkSpec, parts: ResolvedParts): DeviceState {
  const violations: FieldViolation[] = [];
  const ownKey = parts.privateKey.publicKey();
  const peers = new Map<string, PeerState>();
  for (const [place, peer] of spec.peers.entries()) {
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

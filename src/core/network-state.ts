// Desired states of kind NETWORK as plain values: their canonical order, and deltas between them. Controller and agent have to
// agree on both to the byte, so both use this; each turns the values into its messages itself. Pure.
import { type FieldViolation, invalid, LonglineError } from './errors.ts';

/** A peer, as far as it matters here. */
export interface PeerEntry {
  readonly publicKey: string;
}

/** A network, as far as it matters here. */
export interface NetworkEntry<P extends PeerEntry> {
  readonly name: string;
  readonly peers: readonly P[];
}

/** Changes of the peers of one network. */
export interface PeerChange<P extends PeerEntry> {
  readonly network: string;
  readonly put: readonly P[];
  /** Public keys. */
  readonly removed: readonly string[];
}

/** What leads from one full state to another; the fields of longline.v1.NetworkDesiredState. */
export interface NetworkDelta<N extends NetworkEntry<PeerEntry>> {
  /** New, or changed in anything but peers. */
  readonly networks: readonly N[];
  readonly removedNetworks: readonly string[];
  readonly peerDeltas: readonly PeerChange<PeerOf<N>>[];
}

/** The peers of a kind of network. */
export type PeerOf<N> = N extends NetworkEntry<infer P> ? P : never;

/** When two entries are the same. */
export interface NetworkEquality<N> {
  peer(one: PeerOf<N>, other: PeerOf<N>): boolean;
  /** Whatever their peers. */
  network(one: N, other: N): boolean;
}

type AnyNetwork = NetworkEntry<PeerEntry>;

/** Networks in the order of their names, each with its peers in the order of their public keys. */
export function canonicalNetworks<N extends AnyNetwork>(networks: readonly N[]): N[] {
  return networks
    .map((network) => ({ ...network, peers: [...network.peers].sort(byText((peer) => peer.publicKey)) }))
    .sort(byText((network) => network.name));
}

/**
 * The full state that a delta makes of another, in canonical order: removals, then whole networks, then peers. What is to be
 * removed and isn't there is ignored. Throws `invalid` if anything is named twice; `stale` if there are peers of a network that
 * isn't there, since then the delta was made for another state, and the full one has to come.
 */
export function applyNetworkDelta<N extends AnyNetwork>(base: readonly N[], delta: NetworkDelta<N>): N[] {
  const violations: FieldViolation[] = [];
  let unknown: string | undefined;
  const networks = new Map(base.map((network) => [network.name, network]));
  for (const name of delta.removedNetworks) networks.delete(name);
  refuseTwins('networks', delta.networks, ({ name }) => name, violations);
  for (const network of delta.networks) networks.set(network.name, network);
  refuseTwins('peer_deltas', delta.peerDeltas, ({ network }) => network, violations);
  for (const [place, change] of delta.peerDeltas.entries()) {
    const field = `peer_deltas[${place}]`;
    const network = networks.get(change.network);
    if (network === undefined) unknown ??= `${field}.network: "${change.network}"`;
    else {
      refuseTwins(`${field}.put`, change.put, ({ publicKey }) => publicKey, violations);
      networks.set(network.name, { ...network, peers: changedPeers(network.peers, change) });
    }
  }
  if (violations.length > 0) throw invalid(violations);
  if (unknown !== undefined) {
    throw new LonglineError('stale', `${unknown} is no network of the state that is held; send the full state`);
  }
  return canonicalNetworks([...networks.values()]);
}

/** The smallest delta that makes `to` of `from`, each with names and keys once. */
export function diffNetworks<N extends AnyNetwork>(
  from: readonly N[],
  to: readonly N[],
  same: NetworkEquality<N>,
): NetworkDelta<N> {
  const before = new Map(from.map((network) => [network.name, network]));
  const networks: N[] = [];
  const peerDeltas: PeerChange<PeerOf<N>>[] = [];
  for (const network of to) {
    const old = before.get(network.name);
    before.delete(network.name);
    if (old === undefined || !same.network(old, network)) networks.push(network);
    else {
      const change = diffPeers(old, network, same);
      if (change.put.length + change.removed.length > 0) peerDeltas.push(change);
    }
  }
  return { networks, removedNetworks: [...before.keys()], peerDeltas };
}

function diffPeers<N extends AnyNetwork>(old: N, network: N, same: NetworkEquality<N>): PeerChange<PeerOf<N>> {
  const before = new Map((old.peers as readonly PeerOf<N>[]).map((peer) => [peer.publicKey, peer]));
  const put = (network.peers as readonly PeerOf<N>[]).filter((peer) => {
    const known = before.get(peer.publicKey);
    before.delete(peer.publicKey);
    return known === undefined || !same.peer(known, peer);
  });
  return { network: network.name, put, removed: [...before.keys()] };
}

function changedPeers<P extends PeerEntry>(peers: readonly P[], { put, removed }: PeerChange<P>): readonly P[] {
  const changed = new Map(peers.map((peer) => [peer.publicKey, peer]));
  for (const key of removed) changed.delete(key);
  for (const peer of put) changed.set(peer.publicKey, peer);
  return [...changed.values()];
}

function refuseTwins<T>(
  field: string,
  entries: readonly T[],
  keyOf: (entry: T) => string,
  violations: FieldViolation[],
): void {
  const seen = new Set<string>();
  for (const [place, entry] of entries.entries()) {
    const key = keyOf(entry);
    if (seen.has(key)) violations.push({ field: `${field}[${place}]`, description: `"${key}" is there twice` });
    seen.add(key);
  }
}

function byText<T>(textOf: (entry: T) => string): (one: T, other: T) => number {
  return (one, other) => (textOf(one) < textOf(other) ? -1 : textOf(one) > textOf(other) ? 1 : 0);
}

// What to write so that an interface becomes what is wanted: the smallest change, in an order under which no address that a
// peer has before and after is ever without it, and none that moves is ever without an owner. Pure.

import { MAX_PEERS } from '../../core/network/network-spec.ts';
import type { SecretKey } from '../../core/wireguard-keys.ts';
import type { KnownDevice, PeerState, WantedDevice } from './device.ts';

/**
 * A peer that takes away prefixes nobody is to have any more, and is then removed with them: WireGuard can otherwise only
 * replace a peer's whole list, and until that is done packets for the kept ones are lost. Nobody has its private key.
 */
export const SINK_KEY = Buffer.from('longline: takes prefixes, no host').subarray(0, 32).toString('base64');

/** What of a peer is written. Absent fields stay as they are. */
export interface PeerFields {
  /** null takes it away. */
  readonly presharedKey?: SecretKey | null;
  readonly endpoint?: string;
  readonly keepaliveSecs?: number;
  /** Given to this peer, whoever had them. */
  readonly addPrefixes?: readonly string[];
}

/** One step for one peer. */
export type PeerChange =
  | {
      readonly kind: 'add' | 'update';
      readonly publicKey: string;
      readonly fields: PeerFields;
      readonly whole: PeerState;
    }
  | { readonly kind: 'remove'; readonly publicKey: string };

/** Everything to write, in order: the interface's own fields, then the peers. */
export interface DeviceChange {
  readonly privateKey?: SecretKey;
  readonly listenPort?: number;
  readonly fwmark?: number;
  readonly peers: readonly PeerChange[];
}

/** What a plan has to know beside the two states. */
export interface PlanContext {
  /**
   * Endpoint last written for a peer, by public key. A peer may have roamed since, and then what is found is newer than
   * what was written: it is written again only if what is wanted is no longer what was written.
   */
  readonly writtenEndpoints: ReadonlyMap<string, string>;
  /** Peers of somebody else on this interface, which stay. */
  readonly foreign?: ReadonlySet<string>;
}

/** Compares and plans. A plan for equal states is empty. */
export function planDevice(wanted: WantedDevice, found: KnownDevice, context: PlanContext): DeviceChange {
  const kept: PeerChange[] = [];
  for (const peer of wanted.peers.values()) {
    const before = found.peers.get(peer.publicKey);
    const fields = before === undefined ? allFields(peer) : changedFields(peer, before, context);
    if (fields === undefined) continue;
    const kind = before === undefined ? 'add' : 'update';
    // What an adapter that can't update needs to add the peer anew: where it was last seen beats where it was told to be.
    kept.push({
      kind,
      publicKey: peer.publicKey,
      fields,
      whole: { ...peer, endpoint: fields.endpoint ?? before?.endpoint },
    });
  }
  const removals: PeerChange[] = [...found.peers.keys()]
    .filter((key) => !wanted.peers.has(key) && !context.foreign?.has(key))
    .map((publicKey) => ({ kind: 'remove', publicKey }));
  const ownerless = ownerlessPrefixes(wanted, found);
  const additions = kept.filter(({ kind }) => kind === 'add').length;
  const room = MAX_PEERS - found.peers.size - additions;
  const sunk = room + removals.length > 0 ? [...sink(ownerless)] : [...renewed(wanted, found, ownerless)];
  // Prefixes have moved before their old owner goes; only where both don't fit at once, it has to go first.
  const roomy = room >= (ownerless.size > 0 ? 1 : 0);
  return {
    ...ownFields(wanted, found),
    peers: roomy ? [...kept, ...sunk, ...removals] : [...removals, ...kept, ...sunk],
  };
}

/** True if there is nothing to do. */
export function isEmptyChange(change: DeviceChange): boolean {
  const { peers, ...own } = change;
  return peers.length === 0 && Object.keys(own).length === 0;
}

/**
 * The endpoints to remember once a plan has been written: all that are wanted, as each was either written or there. A name
 * that can't be resolved now changes nothing, nor does a peer that was refused; peers that are gone are forgotten.
 */
export function endpointsAfter(
  wanted: WantedDevice,
  context: PlanContext,
  refused: ReadonlySet<string>,
): ReadonlyMap<string, string> {
  const written = new Map<string, string>();
  for (const { endpoint, publicKey } of wanted.peers.values()) {
    const now = refused.has(publicKey) ? undefined : endpoint;
    const known = now ?? context.writtenEndpoints.get(publicKey);
    if (known !== undefined) written.set(publicKey, known);
  }
  return written;
}

/** What an interface is once a plan for it has been written, whole and without a word of refusal. */
export function knownAfter(wanted: WantedDevice, before: KnownDevice, context: PlanContext): KnownDevice {
  const peers = new Map<string, PeerState>();
  const staying = [...(context.foreign ?? [])].filter((key) => before.peers.has(key) && !wanted.peers.has(key));
  const taken = staying.length === 0 ? undefined : prefixesOf(wanted);
  for (const key of staying) {
    const peer = before.peers.get(key)!;
    peers.set(key, { ...peer, prefixes: peer.prefixes.difference(taken!) });
  }
  for (const [key, peer] of wanted.peers) {
    const was = before.peers.get(key);
    const endpoint = was !== undefined && keepsEndpoint(peer, was, context) ? was.endpoint : peer.endpoint;
    peers.set(key, endpoint === peer.endpoint ? peer : { ...peer, endpoint });
  }
  const { fwmark, listenPort = before.listenPort, privateKey } = wanted;
  return { publicKey: privateKey.publicKey(), listenPort, fwmark, peers };
}

function ownFields(wanted: WantedDevice, found: KnownDevice): Omit<DeviceChange, 'peers'> {
  const { privateKey, listenPort, fwmark } = wanted;
  return {
    ...(privateKey.publicKey() === found.publicKey ? {} : { privateKey }),
    ...(listenPort === undefined || listenPort === found.listenPort ? {} : { listenPort }),
    ...(fwmark === found.fwmark ? {} : { fwmark }),
  };
}

function allFields(peer: PeerState): PeerFields {
  return {
    ...(peer.presharedKey === undefined ? {} : { presharedKey: peer.presharedKey }),
    ...(peer.endpoint === undefined ? {} : { endpoint: peer.endpoint }),
    ...(peer.keepaliveSecs === 0 ? {} : { keepaliveSecs: peer.keepaliveSecs }),
    ...(peer.prefixes.size === 0 ? {} : { addPrefixes: [...peer.prefixes] }),
  };
}

/** Undefined if nothing changed, which on a large interface is the case for nearly all: that must cost next to nothing. */
function changedFields(wanted: PeerState, found: PeerState, context: PlanContext): PeerFields | undefined {
  const { presharedKey, endpoint, keepaliveSecs } = wanted;
  const sameSecret =
    presharedKey === undefined ? found.presharedKey === undefined : presharedKey.equals(found.presharedKey);
  const sameEndpoint = keepsEndpoint(wanted, found, context);
  const sameKeepalive = keepaliveSecs === found.keepaliveSecs;
  const addPrefixes = missingFrom(found.prefixes, wanted.prefixes);
  if (sameSecret && sameEndpoint && sameKeepalive && addPrefixes.length === 0) return undefined;
  return {
    ...(sameSecret ? {} : { presharedKey: presharedKey ?? null }),
    ...(endpoint === undefined || sameEndpoint ? {} : { endpoint }),
    ...(sameKeepalive ? {} : { keepaliveSecs }),
    ...(addPrefixes.length === 0 ? {} : { addPrefixes }),
  };
}

/** True if a peer's endpoint is not written. */
function keepsEndpoint({ endpoint, publicKey }: PeerState, found: PeerState, context: PlanContext): boolean {
  const lastKnown = found.endpoint === undefined ? undefined : context.writtenEndpoints.get(publicKey);
  return endpoint === undefined || endpoint === (lastKnown ?? found.endpoint);
}

const NONE: readonly string[] = [];

/** What `from` has and `set` lacks. */
function missingFrom(set: ReadonlySet<string>, from: ReadonlySet<string>): readonly string[] {
  let missing = NONE;
  for (const prefix of from) if (!set.has(prefix)) missing = [...missing, prefix];
  return missing;
}

/** Prefixes that a kept peer has and nobody is to have. Those of removed peers go with them. */
function ownerlessPrefixes(wanted: WantedDevice, found: KnownDevice): ReadonlySet<string> {
  const ownerless = new Set<string>();
  for (const peer of wanted.peers.values()) {
    const before = found.peers.get(peer.publicKey);
    if (before !== undefined) for (const prefix of missingFrom(peer.prefixes, before.prefixes)) ownerless.add(prefix);
  }
  return ownerless.size === 0 ? ownerless : ownerless.difference(prefixesOf(wanted));
}

function prefixesOf({ peers }: WantedDevice): ReadonlySet<string> {
  return new Set([...peers.values()].flatMap(({ prefixes }) => [...prefixes]));
}

function* sink(prefixes: ReadonlySet<string>): Generator<PeerChange> {
  if (prefixes.size === 0) return;
  const whole: PeerState = {
    publicKey: SINK_KEY,
    presharedKey: undefined,
    endpoint: undefined,
    keepaliveSecs: 0,
    prefixes,
  };
  yield { kind: 'add', publicKey: SINK_KEY, fields: { addPrefixes: [...prefixes] }, whole };
  yield { kind: 'remove', publicKey: SINK_KEY };
}

/** Where an interface is so full that the sink doesn't fit, peers that lose a prefix are made anew, and lose packets. */
function* renewed(wanted: WantedDevice, found: KnownDevice, ownerless: ReadonlySet<string>): Generator<PeerChange> {
  for (const before of found.peers.values()) {
    const peer = wanted.peers.get(before.publicKey);
    if (peer === undefined || ownerless.isDisjointFrom(before.prefixes)) continue;
    const whole = { ...peer, endpoint: peer.endpoint ?? before.endpoint };
    yield { kind: 'remove', publicKey: peer.publicKey };
    yield { kind: 'add', publicKey: peer.publicKey, fields: allFields(whole), whole };
  }
}

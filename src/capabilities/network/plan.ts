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
  /** True if it is to be spoken to at once, though there may be nothing to send. In vain without an endpoint. */
  readonly greet?: boolean;
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
  const { added, emptied, kept, ownerless, removed } = survey(wanted, found, context);
  const changes = [
    ...added.map((peer) => changeOf('add', peer, newFields(peer, emptied), undefined)),
    ...kept.map(({ before, fields, peer }) => changeOf('update', peer, fields, before)),
  ];
  const removals = removed.map((publicKey): PeerChange => ({ kind: 'remove', publicKey }));
  const room = MAX_PEERS - found.peers.size - added.length;
  const sunk = room + removals.length > 0 ? [...sink(ownerless)] : [...renewed(wanted, found, ownerless)];
  // Prefixes have moved before their old owner goes; only where both don't fit at once, it has to go first.
  const roomy = room >= (ownerless.size > 0 ? 1 : 0);
  return {
    ...ownFields(wanted, found),
    peers: roomy ? [...changes, ...sunk, ...removals] : [...removals, ...changes, ...sunk],
  };
}

function changeOf(
  kind: 'add' | 'update',
  peer: PeerState,
  fields: PeerFields,
  before: PeerState | undefined,
): PeerChange {
  // What an adapter that can't update needs to add the peer anew: where it was last seen beats where it was told to be.
  return { kind, publicKey: peer.publicKey, fields, whole: { ...peer, endpoint: fields.endpoint ?? before?.endpoint } };
}

/** What differs. */
interface Differences {
  readonly added: readonly PeerState[];
  readonly kept: readonly { readonly peer: PeerState; readonly before: PeerState; readonly fields: PeerFields }[];
  /** Keys of peers that go. */
  readonly removed: readonly string[];
  /** Prefixes that a kept peer has and nobody is to have. Those of removed peers go with them. */
  readonly ownerless: ReadonlySet<string>;
  /** Peers that go or keep no prefix, by the first that they had. */
  readonly emptied: ReadonlyMap<string, PeerState>;
}

/** Looks once at each peer: on a large interface, where nearly all stay as they are, that is what a plan costs. */
function survey(wanted: WantedDevice, found: KnownDevice, context: PlanContext): Differences {
  const added: PeerState[] = [];
  const kept: { peer: PeerState; before: PeerState; fields: PeerFields }[] = [];
  const lost = new Set<string>();
  const gone: PeerState[] = [];
  let stay = 0;
  for (const peer of wanted.peers.values()) {
    const before = found.peers.get(peer.publicKey);
    if (before === undefined) {
      added.push(peer);
      continue;
    }
    stay += 1;
    const missing = missingFrom(before.prefixes, peer.prefixes);
    const fields = changedFields(peer, before, missing, context);
    if (fields !== undefined) kept.push({ peer, before, fields });
    if (missing.length === 0 && peer.prefixes.size === before.prefixes.size) continue;
    for (const prefix of missingFrom(peer.prefixes, before.prefixes)) lost.add(prefix);
    if (peer.prefixes.size === 0) gone.push(before);
  }
  const others = stay === found.peers.size ? [] : [...found.peers.values()];
  const removed = others.filter(({ publicKey }) => !wanted.peers.has(publicKey) && !context.foreign?.has(publicKey));
  const emptied = new Map<string, PeerState>();
  for (const peer of [...gone, ...removed]) for (const prefix of firstOf(peer.prefixes)) emptied.set(prefix, peer);
  const ownerless = lost.size === 0 ? lost : lost.difference(prefixesOf(wanted));
  return { added, kept, removed: removed.map(({ publicKey }) => publicKey), ownerless, emptied };
}

function firstOf(prefixes: ReadonlySet<string>): readonly string[] {
  for (const prefix of prefixes) return [prefix];
  return NONE;
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

/**
 * What an interface is once a plan for it has been written, whole and without a word of refusal; but for where peers have
 * roamed to. Made of what is wanted as far as it goes: with many peers a copy would take longer than the rest.
 */
export function knownAfter(wanted: WantedDevice, before: KnownDevice, context: PlanContext): KnownDevice {
  const { fwmark, listenPort = before.listenPort, privateKey } = wanted;
  const own = { publicKey: privateKey.publicKey(), listenPort, fwmark };
  const others = context.foreign === undefined ? [] : [...before.peers.values()];
  const staying = others.filter(({ publicKey }) => !wanted.peers.has(publicKey) && context.foreign?.has(publicKey));
  const coming = [...wanted.peers.values()].filter(({ endpoint }) => endpoint === undefined);
  if (staying.length + coming.length === 0) return { ...own, peers: wanted.peers };
  const peers = new Map(wanted.peers);
  for (const peer of coming) {
    const endpoint = before.peers.get(peer.publicKey)?.endpoint;
    if (endpoint !== undefined) peers.set(peer.publicKey, { ...peer, endpoint });
  }
  const taken = prefixesOf(wanted);
  for (const peer of staying) peers.set(peer.publicKey, { ...peer, prefixes: peer.prefixes.difference(taken) });
  return { ...own, peers };
}

function ownFields(wanted: WantedDevice, found: KnownDevice): Omit<DeviceChange, 'peers'> {
  const { privateKey, listenPort, fwmark } = wanted;
  return {
    ...(privateKey.publicKey() === found.publicKey ? {} : { privateKey }),
    ...(listenPort === undefined || listenPort === found.listenPort ? {} : { listenPort }),
    ...(fwmark === found.fwmark ? {} : { fwmark }),
  };
}

/**
 * A key that takes over all prefixes of another is that of the same host. It is where that one was last seen, and is greeted:
 * a host that changed its key holds back what it has to send until there is a handshake, but not for long.
 */
function newFields(peer: PeerState, emptied: Differences['emptied']): PeerFields {
  const [first] = peer.prefixes;
  const before = first === undefined ? undefined : emptied.get(first);
  if (before === undefined || before.prefixes.symmetricDifference(peer.prefixes).size > 0) return allFields(peer);
  const endpoint = peer.endpoint ?? before.endpoint;
  return { ...allFields(peer), ...(endpoint === undefined ? {} : { endpoint }), greet: true };
}

function allFields(peer: PeerState): PeerFields {
  return {
    ...(peer.presharedKey === undefined ? {} : { presharedKey: peer.presharedKey }),
    ...(peer.endpoint === undefined ? {} : { endpoint: peer.endpoint }),
    ...(peer.keepaliveSecs === 0 ? {} : { keepaliveSecs: peer.keepaliveSecs }),
    ...(peer.prefixes.size === 0 ? {} : { addPrefixes: [...peer.prefixes] }),
  };
}

/** Undefined if nothing changed. */
function changedFields(
  wanted: PeerState,
  found: PeerState,
  addPrefixes: readonly string[],
  context: PlanContext,
): PeerFields | undefined {
  const { presharedKey, endpoint, keepaliveSecs } = wanted;
  const sameSecret =
    presharedKey === undefined ? found.presharedKey === undefined : presharedKey.equals(found.presharedKey);
  const sameEndpoint = endpoint === undefined || endpoint === found.endpoint || isRoamed(wanted, found, context);
  const sameKeepalive = keepaliveSecs === found.keepaliveSecs;
  if (sameSecret && sameEndpoint && sameKeepalive && addPrefixes.length === 0) return undefined;
  return {
    ...(sameSecret ? {} : { presharedKey: presharedKey ?? null }),
    ...(sameEndpoint ? {} : { endpoint }),
    ...(sameKeepalive ? {} : { keepaliveSecs }),
    ...(addPrefixes.length === 0 ? {} : { addPrefixes }),
  };
}

/** True if a peer is elsewhere than it was last told to be, and nothing else is wanted since. */
function isRoamed({ endpoint, publicKey }: PeerState, found: PeerState, context: PlanContext): boolean {
  return found.endpoint !== undefined && context.writtenEndpoints.get(publicKey) === endpoint;
}

const NONE: readonly string[] = [];

/** What `from` has and `set` lacks. */
function missingFrom(set: ReadonlySet<string>, from: ReadonlySet<string>): readonly string[] {
  let missing = NONE;
  for (const prefix of from) if (!set.has(prefix)) missing = [...missing, prefix];
  return missing;
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

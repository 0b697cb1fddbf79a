// A network as it is observed, in plain values: what is found, joined to what is wanted. Pure.
import type { CapabilityHealth } from '../../core/capability.ts';
import type { Backend, NetworkSpec } from '../../core/network/network-spec.ts';
import type { FoundDevice, FoundPeer } from './device.ts';
import type { PeerHealth } from './health.ts';

/** Something that is not as wanted, or should be known. */
export interface Problem {
  /** "peers[3].endpoint", or "interface", "routes", "dns", "nat", "foreign_peers". */
  readonly field: string;
  readonly message: string;
  /** True for what is only to be known. */
  readonly harmless: boolean;
}

/**
 * `starting`: it is being brought about for the first time, or anew. `up`: all is as wanted. `degraded`: it works, but not all is
 * as wanted. `failed`: it doesn't work. `removing`: it is being taken away.
 */
export type RunState = 'starting' | 'up' | 'degraded' | 'failed' | 'removing';

/** Who asked for a network: the controller, a program on this host, or the file of networks. */
export type Source = 'controller' | 'local' | 'file';

/** One of the host's keys. */
export interface HostKey {
  readonly epoch: number;
  readonly publicKey: string;
}

/** A peer as it is observed. */
export interface PeerView {
  /** Empty for one of somebody else. */
  readonly name: string;
  readonly publicKey: string;
  readonly endpoint: string | undefined;
  readonly prefixes: readonly string[];
  readonly health: PeerHealth;
  readonly lastHandshakeMs: number | undefined;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly keepaliveSecs: number;
  readonly hasPresharedKey: boolean;
  readonly foreign: boolean;
}

/** A network as it is observed. */
export interface NetworkView {
  readonly name: string;
  readonly source: Source;
  /** By its real name. */
  readonly interface: string;
  readonly state: RunState;
  readonly backend: Backend | undefined;
  readonly keys: readonly HostKey[];
  readonly keyEpoch: number;
  readonly listenPort: number | undefined;
  readonly addresses: readonly string[];
  readonly mtu: number;
  readonly problems: readonly Problem[];
  readonly counts: Readonly<Record<PeerHealth, number>>;
  /** In the order of public keys; those in trouble first to be among them. */
  readonly peers: readonly PeerView[];
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Handshakes that were seen since this process looks at it; between two looks several count as one. */
  readonly handshakes: number;
  /** How often a peer answered again that had not. */
  readonly recoveries: number;
  readonly reconciledAtMs: number | undefined;
  readonly passes: Passes;
}

/** Passes over a network since this process looks at it, and the time that they took. */
export interface Passes {
  readonly succeeded: number;
  readonly failed: number;
  readonly tookMs: number;
}

/** None yet. */
export const NO_PASSES: Passes = { succeeded: 0, failed: 0, tookMs: 0 };

const WORST_FIRST: readonly PeerHealth[] = ['stale', 'suspect', 'active', 'idle'];

/** Figures over all peers, and details of at most `most` of them. */
export function peersOf(
  found: FoundDevice | undefined,
  spec: NetworkSpec | undefined,
  healthOf: (publicKey: string) => PeerHealth,
  most: number,
): Pick<NetworkView, 'counts' | 'peers' | 'receivedBytes' | 'sentBytes'> {
  const names = new Map(spec?.peers.map((peer) => [peer.publicKey, peer.name]));
  const counts = { active: 0, idle: 0, suspect: 0, stale: 0 };
  let [receivedBytes, sentBytes] = [0, 0];
  const all = [...(found?.peers.values() ?? [])];
  for (const peer of all) {
    counts[healthOf(peer.publicKey)] += 1;
    receivedBytes += peer.receivedBytes;
    sentBytes += peer.sentBytes;
  }
  const rank = ({ publicKey }: FoundPeer) => WORST_FIRST.indexOf(healthOf(publicKey));
  const told = all.length <= most ? all : all.sort((a, b) => rank(a) - rank(b)).slice(0, most);
  const peers = told
    .map((peer) => peerView(peer, names.get(peer.publicKey), healthOf(peer.publicKey)))
    .sort((a, b) => (a.publicKey < b.publicKey ? -1 : 1));
  return { counts, peers, receivedBytes, sentBytes };
}

function peerView(peer: FoundPeer, name: string | undefined, health: PeerHealth): PeerView {
  const { presharedKey, prefixes, ...rest } = peer;
  return {
    ...rest,
    name: name ?? '',
    prefixes: [...prefixes],
    health,
    hasPresharedKey: presharedKey !== undefined,
    foreign: name === undefined,
  };
}

/** A view without what changes by itself. */
export function withoutFigures(view: NetworkView): NetworkView {
  const counts = { active: 0, idle: 0, suspect: 0, stale: 0 };
  return { ...view, counts, receivedBytes: 0, sentBytes: 0, reconciledAtMs: undefined, passes: NO_PASSES };
}

/** How the networks of a host are, in a few words. */
export function networksHealth(views: readonly NetworkView[]): CapabilityHealth {
  const works = views.every(({ state }) => state !== 'failed');
  const well = views.every(({ state, counts }) => state !== 'degraded' && counts.stale === 0);
  return {
    ok: works && well,
    works,
    detail: views.map(healthText).join(', ') || 'no networks',
    mend: 'see longline network show; where peers are silent, whether their hosts are up',
  };
}

function healthText({ name, state, problems, counts }: NetworkView): string {
  const why = problems.filter(({ harmless }) => !harmless).slice(0, 1);
  const parts = why.map(({ field, message }) => `${field}: ${message}`);
  const all = Object.values(counts).reduce((sum, one) => sum + one, 0);
  if (counts.stale > 0) parts.push(`no handshake lately with ${counts.stale} of ${all} peers`);
  return parts.length === 0 ? `${name} ${state}` : `${name} ${state} (${parts.join('; ')})`;
}

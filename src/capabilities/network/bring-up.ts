// Brings one network about, step by step: interface, key and peers, addresses and routes, forwarding, name servers. Each step compares
// before it writes, so that a pass over what is as wanted writes nothing, and each can be begun anew after a kill at any point. Peers
// come before routes to them. A step that fails costs the later ones nothing; only without interface or key there is no going on.
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import type { NetworkSpec, PeerSpec } from '../../core/network/network-spec.ts';
import type { SecretKey } from '../../core/wireguard-keys.ts';
import { type FoundDevice, type KnownDevice, type WantedDevice, wantedDevice } from './device.ts';
import { wantedForwarding } from './forwarding.ts';
import type { KeysInUse } from './keys.ts';
import { routeKey } from './link.ts';
import { reconcileLink } from './link-reconcile.ts';
import type { Names } from './names.ts';
import type { NetworkOrder, RefusedItem } from './order.ts';
import { isEmptyChange, SINK_KEY } from './plan.ts';
import type { KeyStore, OpenInterface } from './ports.ts';
import { reconcile } from './reconcile.ts';
import { linkRecord, type NetworkRecord } from './record.ts';
import type { NetworkServices } from './services.ts';
import type { HostKey, Problem } from './status.ts';
import { wantedLink } from './wanted-link.ts';
import type { WrittenPeers } from './written-peers.ts';

/** What a pass works with. */
export interface BringUpParts {
  readonly services: NetworkServices;
  readonly order: NetworkOrder;
  readonly opened: OpenInterface;
  readonly written: WrittenPeers;
  readonly names: Names;
  readonly record: KeptRecord;
  readonly memory: PassMemory;
  /** True: what the last pass left is taken for what is there, for a change that is to be in place at once. A whole pass follows. */
  readonly isQuick: boolean;
}

/** What one pass leaves to the next. */
export interface PassMemory {
  known: KnownDevice | undefined;
  /** Addresses and routes as they were wanted, as text. */
  link: string | undefined;
}

/** The network's record. `keep` is durable when it resolves. */
export interface KeptRecord {
  readonly current: NetworkRecord;
  keep(change: Partial<NetworkRecord>): Promise<void>;
}

/** What a pass came to. */
export interface BroughtUp {
  /** As it was found at last; undefined if it wasn't looked at. */
  readonly found: FoundDevice | undefined;
  readonly keys: readonly HostKey[];
  readonly problems: readonly Problem[];
  readonly refused: readonly RefusedItem[];
  /** True if anything was written. */
  readonly changed: boolean;
}

/** What is collected on the way. */
interface Findings {
  readonly problems: Problem[];
  readonly refused: RefusedItem[];
}

/** One pass over an open interface. Throws if it has no key or can't be reached. */
export async function bringUp(parts: BringUpParts, signal: AbortSignal): Promise<BroughtUp> {
  const { services, order } = parts;
  const findings: Findings = { problems: [...order.problems], refused: [...order.refused] };
  const { privateKey, keys } = await keysOf(services, order.spec);
  const device = await bringUpDevice(parts, privateKey, findings, signal);
  await attempt('key_epoch', findings, () => services.keys.forgetOthers(order.spec));
  const linkChanged = await attempt('routes', findings, () => bringUpLink(parts, findings, signal));
  if (!parts.isQuick) {
    await attempt('nat', findings, () => bringUpForwarding(parts, findings));
    await attempt('dns', findings, () => bringUpNames(parts, findings, signal));
  }
  return { ...device, changed: device.changed || linkChanged === true, keys, ...findings };
}

/** Without its key a network can't be had; the error names the field. */
async function keysOf({ keys }: NetworkServices, spec: NetworkSpec): Promise<KeysInUse> {
  try {
    return await keys.use(spec);
  } catch (error) {
    const { message, reason } = toLonglineError(error);
    const field = spec.keyEpoch === 0 ? 'private_key_path' : 'key_epoch';
    throw new LonglineError(reason, message, { violations: [{ field, description: message }], cause: error });
  }
}

async function bringUpDevice(
  { services, order, opened, written, names, memory, isQuick }: BringUpParts,
  privateKey: SecretKey,
  findings: Findings,
  signal: AbortSignal,
): Promise<Pick<BroughtUp, 'found' | 'changed'>> {
  const { spec } = order;
  const { device } = opened;
  const endpoints = await names.resolve(endpointsOf(spec), signal);
  noteUnresolved(spec, names, findings);
  const presharedKeys = await readPresharedKeys(spec, services.system.keys);
  const { wanted, left } = wantedOf(spec, privateKey, presharedKeys, endpoints, findings);
  const found = isQuick ? undefined : await device.read(signal);
  const before = found ?? memory.known ?? (await device.read(signal));
  memory.known = undefined;
  // Peers that can't be had as they are wanted stay as they are, beside those of others.
  const isKept = (key: string) => left.has(key) || isForeign(spec, written, key);
  const foreign = new Set([...before.peers.keys()].filter((key) => !wanted.peers.has(key) && isKept(key)));
  noteForeign(foreign.difference(left), findings);
  await written.intend([...wanted.peers.keys()].filter((key) => !before.peers.has(key)));
  const context = { known: before, writtenEndpoints: written.endpoints(), foreign };
  const done = await reconcile(device, wanted, context, signal);
  for (const [publicKey, error] of done.refused) {
    findings.refused.push({ item: publicKey, error });
    findings.problems.push({ field: fieldOf(spec, publicKey), message: error.message, harmless: false });
  }
  await written.settle([...wanted.peers.keys(), ...[...left].filter((key) => written.has(key))], done.writtenEndpoints);
  memory.known = done.known;
  const changed = !isEmptyChange(done.change);
  return { found: changed && !isQuick ? await device.read(signal) : found, changed };
}

function endpointsOf(spec: NetworkSpec): string[] {
  return spec.peers.flatMap(({ endpoint }) => endpoint ?? []);
}

async function bringUpLink(
  { services, order, opened, memory, isQuick }: BringUpParts,
  findings: Findings,
  signal: AbortSignal,
): Promise<boolean> {
  const { links } = services.system;
  const wanted = wantedLink(order.spec, opened.realName, links.hasRules);
  const text = JSON.stringify(wanted);
  if (isQuick && text === memory.link) return false;
  memory.link = text;
  const ledger = linkRecord(services.state, order.spec.name);
  const { foreign, refused, steps } = await reconcileLink(links, ledger, wanted, signal);
  for (const [step, { message }] of refused) {
    findings.problems.push({ field: fieldOfStep(step), message: `${step}: ${message}`, harmless: false });
  }
  const others = [...foreign.addresses, ...foreign.routes.map(routeKey)];
  if (others.length > 0) {
    const message = `somebody else has set ${others.slice(0, 5).join(', ')}${others.length > 5 ? ', …' : ''}; it stays`;
    findings.problems.push({ field: 'interface', message, harmless: true });
  }
  return steps.length > 0;
}

async function bringUpForwarding({ services, order, opened, record }: BringUpParts, findings: Findings): Promise<void> {
  const { name } = order.spec;
  const wanted = wantedForwarding(order.spec);
  const isWanted = wanted.switches.length > 0 || wanted.rules !== undefined;
  // Most networks want none and never did: they cost no look at the firewall.
  if (!isWanted && !record.current.forwards) return;
  if (!record.current.forwards) await record.keep({ forwards: true });
  const notes = await services.turns.take(() => services.forwarding.apply(name, opened.realName, wanted));
  for (const message of notes) findings.problems.push({ field: 'forward', message, harmless: true });
  if (!isWanted) await record.keep({ forwards: false });
}

async function bringUpNames(
  { services, order, opened, record }: BringUpParts,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const { spec } = order;
  const isWanted = spec.dns.length > 0;
  if (!isWanted && !record.current.resolves) return;
  if (!record.current.resolves) await record.keep({ resolves: true });
  const { nameResolution, turns } = services;
  const notes = await turns.take(() => nameResolution.apply(spec, opened.realName, signal));
  for (const message of notes) findings.problems.push({ field: 'dns', message, harmless: true });
  if (!isWanted) await record.keep({ resolves: false });
}

function fieldOfStep(step: string): string {
  if (/address/.test(step)) return 'addresses';
  return /route|rule/.test(step) ? 'routes' : 'interface';
}

function isForeign(spec: NetworkSpec, written: WrittenPeers, publicKey: string): boolean {
  return spec.foreignPeers === 'keep' && publicKey !== SINK_KEY && !written.has(publicKey);
}

function noteForeign(others: ReadonlySet<string>, findings: Findings): void {
  if (others.size === 0) return;
  const shown = [...others].slice(0, 3).join(', ');
  const message = `${others.size} peers were put there by somebody else and stay, such as ${shown}; foreign_peers = "own" removes them`;
  findings.problems.push({ field: 'foreign_peers', message, harmless: true });
}

function noteUnresolved(spec: NetworkSpec, names: Names, findings: Findings): void {
  for (const [place, { endpoint }] of spec.peers.entries()) {
    if (endpoint === undefined || !names.isUnresolved(endpoint)) continue;
    const message = `"${endpoint}" can't be resolved; its peer waits, and it is asked for again`;
    findings.problems.push({ field: `peers[${place}].endpoint`, message, harmless: false });
  }
}

/** By path; those that can't be read with their error. */
async function readPresharedKeys(
  spec: NetworkSpec,
  files: KeyStore,
): Promise<ReadonlyMap<string, SecretKey | LonglineError>> {
  const read = new Map<string, SecretKey | LonglineError>();
  for (const { presharedKeyPath: path } of spec.peers) {
    if (path === undefined || read.has(path)) continue;
    read.set(path, await files.read(path).catch((error: unknown) => toLonglineError(error)));
  }
  return read;
}

/** The device as far as it can be had, and the keys of peers that can't. */
function wantedOf(
  spec: NetworkSpec,
  privateKey: SecretKey,
  read: ReadonlyMap<string, SecretKey | LonglineError>,
  endpoints: ReadonlyMap<string, string>,
  findings: Findings,
): { readonly wanted: WantedDevice; readonly left: ReadonlySet<string> } {
  const ownKey = privateKey.publicKey();
  const presharedKeys = new Map<string, SecretKey>();
  for (const [path, key] of read) if (!(key instanceof LonglineError)) presharedKeys.set(path, key);
  const left = new Set<string>();
  const obstacleOf = ({ presharedKeyPath: path, publicKey }: PeerSpec): [string, LonglineError] | undefined => {
    if (publicKey === ownKey) {
      return ['public_key', new LonglineError('invalid', `${ownKey} is this host's own; a peer is another host`)];
    }
    const key = path === undefined ? undefined : read.get(path);
    return key instanceof LonglineError ? ['preshared_key_path', key] : undefined;
  };
  const peers = spec.peers.filter((peer, place) => {
    const obstacle = obstacleOf(peer);
    if (obstacle === undefined) return true;
    const [field, error] = obstacle;
    left.add(peer.publicKey);
    findings.refused.push({ item: peer.publicKey, error });
    findings.problems.push({ field: `peers[${place}].${field}`, message: error.message, harmless: false });
    return false;
  });
  return { wanted: wantedDevice({ ...spec, peers }, { privateKey, presharedKeys, endpoints }), left };
}

function fieldOf(spec: NetworkSpec, publicKey: string): string {
  const place = spec.peers.findIndex((peer) => peer.publicKey === publicKey);
  return place < 0 ? 'peers' : `peers[${place}]`;
}

/** Does a part of a pass whose failure costs the others nothing. */
async function attempt<T>(field: string, findings: Findings, step: () => Promise<T>): Promise<T | undefined> {
  try {
    return await step();
  } catch (error) {
    const { message, reason } = toLonglineError(error);
    if (reason === 'cancelled') throw error;
    findings.problems.push({ field, message, harmless: false });
    return undefined;
  }
}

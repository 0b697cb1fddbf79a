// Takes one network away, in the reverse order of its making. Only what is ours goes: an interface that somebody else made stays, with
// the peers, addresses and routes that others gave it. Can be begun anew after a kill at any point; what is gone already is no error.
import { LonglineError } from '../../core/errors.ts';
import { DEFAULT_MTU } from '../../core/network/network-spec.ts';
import { EMPTY_RECORD } from './link.ts';
import { undoLink } from './link-reconcile.ts';
import type { WireguardDevice } from './ports.ts';
import { linkRecord, type NetworkRecord } from './record.ts';
import type { NetworkServices } from './services.ts';
import type { WrittenPeers } from './written-peers.ts';

/** Takes it away. Throws if anything may be left. */
export async function removeNetwork(
  services: NetworkServices,
  record: NetworkRecord,
  written: WrittenPeers,
  signal: AbortSignal,
): Promise<void> {
  const { forwarding, nameResolution, turns } = services;
  const { interfaces, links } = services.system;
  const { interface: name, realName = name } = record;
  const ledger = linkRecord(services.state, record.name);
  if (record.resolves) await turns.take(() => nameResolution.remove(record.name, signal));
  if (record.forwards) await turns.take(() => forwarding.remove(record.name, realName));
  // One that was never opened may be somebody else's, with routes that look like ours.
  if (record.realName !== undefined) await undoLink(links, ledger, realName, signal);
  if (record.isForeign) await removeOwnPeers(services, name, realName, written, signal);
  await interfaces.remove(name, signal);
  await ledger.write(EMPTY_RECORD);
  await written.clear();
}

async function removeOwnPeers(
  { system }: NetworkServices,
  name: string,
  realName: string,
  written: WrittenPeers,
  signal: AbortSignal,
): Promise<void> {
  const known = (await system.interfaces.list(signal)).find((one) => one.name === name);
  if (known === undefined) return;
  // Somebody removed it, and our peers with it: opened it would be made anew.
  if ((await system.links.read(realName, signal)).state === 'absent') return;
  try {
    const nothing = { mtu: DEFAULT_MTU, fwmark: 0, listenPort: undefined };
    const request = { name, backend: known.kind, ...nothing, adoptForeign: true };
    await clearPeers((await system.interfaces.open(request, signal)).device, written, signal);
  } catch (error) {
    // Somebody put something else in its place, and our peers went with it.
    if (!(error instanceof LonglineError && error.reason === 'already_exists')) throw error;
  }
}

async function clearPeers(device: WireguardDevice, written: WrittenPeers, signal: AbortSignal): Promise<void> {
  const found = await device.read(signal);
  const ours = [...found.peers.keys()].filter((key) => written.has(key));
  if (ours.length === 0) return;
  await device.write({ peers: ours.map((publicKey) => ({ kind: 'remove', publicKey })) }, signal);
}

// Makes an interface be what is wanted: read, plan, write. If a part is refused, what was written is unknown: it is read and
// planned again, and written peer by peer, so that one that can't be had costs the others nothing and is named. Fails if the
// interface can't be reached, or refuses what isn't a peer's.
import { LonglineError } from '../../core/errors.ts';
import type { KnownDevice, WantedDevice } from './device.ts';
import { endpointsAfter, isEmptyChange, knownAfter, type PlanContext, planDevice } from './plan.ts';
import type { DeviceChange, WireguardDevice } from './ports.ts';

/** What is known before. */
export interface ReconcileContext extends PlanContext {
  /**
   * The interface as the last reconciliation left it. Saves the read, which with many peers takes longer than all the rest:
   * for a change that is to be in place at once. It may be out of date, so whoever gives it reconciles again without it.
   */
  readonly known?: KnownDevice | undefined;
}

/** What came of it. */
export interface Reconciled {
  /** What was found to be written at first; empty if all was as wanted. */
  readonly change: DeviceChange;
  /** To be kept, and given to the next plan. */
  readonly writtenEndpoints: ReadonlyMap<string, string>;
  /** The interface as it was left; undefined if a part was refused. */
  readonly known: KnownDevice | undefined;
  /** Why, by public key of each peer that was refused. */
  readonly refused: ReadonlyMap<string, LonglineError>;
}

/** Reconciles once. */
export async function reconcile(
  device: WireguardDevice,
  wanted: WantedDevice,
  context: ReconcileContext,
  signal?: AbortSignal,
): Promise<Reconciled> {
  const { before, change } = await plan(device, wanted, context, signal);
  const refused = new Map<string, LonglineError>();
  if (!isEmptyChange(change)) {
    try {
      await device.write(change, signal);
    } catch (error) {
      refusalOf(error);
      const again = planDevice(wanted, await device.read(signal), context);
      await writeOneByOne(device, again, refused, signal);
    }
  }
  const writtenEndpoints = endpointsAfter(wanted, context, new Set(refused.keys()));
  const known = refused.size > 0 ? undefined : knownAfter(wanted, before, context);
  return { change, writtenEndpoints, known, refused };
}

async function plan(
  device: WireguardDevice,
  wanted: WantedDevice,
  context: ReconcileContext,
  signal: AbortSignal | undefined,
): Promise<{ readonly before: KnownDevice; readonly change: DeviceChange }> {
  if (context.known !== undefined) {
    const change = planDevice(wanted, context.known, context);
    // Where a host is that changed its key, and told nobody where it is, only WireGuard knows.
    const lost = change.peers.some(({ kind, publicKey, ...more }) => {
      return (
        kind === 'add' && 'fields' in more && more.fields.greet && wanted.peers.get(publicKey)?.endpoint === undefined
      );
    });
    if (!lost) return { before: context.known, change };
  }
  const before = await device.read(signal);
  return { before, change: planDevice(wanted, before, context) };
}

async function writeOneByOne(
  device: WireguardDevice,
  { peers, ...own }: DeviceChange,
  refused: Map<string, LonglineError>,
  signal: AbortSignal | undefined,
): Promise<void> {
  await device.write({ ...own, peers: [] }, signal);
  for (const peer of peers) {
    try {
      await device.write({ peers: [peer] }, signal);
    } catch (error) {
      refused.set(peer.publicKey, refusalOf(error));
    }
  }
}

/** The error as a refusal; throws it again if it is anything else. */
function refusalOf(error: unknown): LonglineError {
  if (error instanceof LonglineError && ['invalid', 'already_exists'].includes(error.reason)) return error;
  throw error;
}

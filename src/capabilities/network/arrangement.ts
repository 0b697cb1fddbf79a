// Who gets which name and interface, where several ask: the file of networks and programs of the host first, then the controller, so
// that what somebody set up on the host itself is not taken from them from afar. Pure.
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import type { NetworkDraft } from '../../core/network/network-spec.ts';
import { lenientOrder, type NetworkOrder, type RefusedItem } from './order.ts';
import type { Source } from './status.ts';

/** All that is to be there. */
export interface Arrangement {
  /** By name. */
  readonly orders: ReadonlyMap<string, NetworkOrder>;
  /** Networks of the controller that can't be had; what is there under their names and is the controller's stays as it is. */
  readonly refused: readonly RefusedItem[];
}

/** Arranges what is asked for on the host, which was checked before, and what the controller wants. */
export function arrange(onHost: Iterable<NetworkOrder>, wanted: readonly NetworkDraft[]): Arrangement {
  const orders = new Map<string, NetworkOrder>();
  const refused: RefusedItem[] = [];
  for (const order of onHost) orders.set(order.spec.name, order);
  for (const draft of wanted) {
    try {
      const order = lenientOrder('controller', draft);
      refuseClash(order, orders.values());
      orders.set(order.spec.name, order);
    } catch (error) {
      refused.push({ item: draft.name, error: toLonglineError(error) });
    }
  }
  return { orders, refused };
}

/** Throws `already_exists` if another order has the name or interface; one of the same name and source is replaced, and no other. */
export function refuseClash({ source, spec }: NetworkOrder, others: Iterable<NetworkOrder>): void {
  for (const other of others) {
    const isSameName = other.spec.name === spec.name;
    if (isSameName && other.source === source) continue;
    if (isSameName) {
      throw new LonglineError('already_exists', `name: network ${spec.name} was asked for ${WHERE[other.source]}`);
    }
    if (other.spec.interface !== spec.interface) continue;
    const whose = `network ${other.spec.name}, asked for ${WHERE[other.source]}`;
    throw new LonglineError('already_exists', `interface: "${spec.interface}" is that of ${whose}`);
  }
}

const WHERE: Readonly<Record<Source, string>> = {
  controller: 'by the controller',
  local: 'on this host',
  file: 'in the file of networks',
};

// Who gets which name, where several ask: the host first, so that what somebody set up on it is not taken from them from afar, then the
// controller, then a registry. Pure.
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { orderOf, type ProgramOrder } from './order.ts';
import type { ArtifactOrigin, RefusedListing } from './ports.ts';
import type { ProgramSpecInput } from './wire.ts';

/** What one source asks for. */
export interface Asked {
  readonly source: ArtifactOrigin;
  readonly specs: readonly ProgramSpecInput[];
  /** What could not be made sense of on the way. */
  readonly refused: readonly RefusedListing[];
}

/** Something that can't be had. */
export interface RefusedOrder extends RefusedListing {
  readonly source: ArtifactOrigin;
}

/** All that is to be there. */
export interface Arrangement {
  /** By name. */
  readonly orders: ReadonlyMap<string, ProgramOrder>;
  /** A program that is there under such a name, and is of this source, stays as it is. */
  readonly refused: readonly RefusedOrder[];
}

export const NOTHING_ASKED: Arrangement = { orders: new Map(), refused: [] };

/** @param asked who comes first has the name. */
export function arrange(asked: readonly Asked[]): Arrangement {
  const orders = new Map<string, ProgramOrder>();
  const refused: RefusedOrder[] = [];
  for (const { source, specs, refused: before } of asked) {
    refused.push(...before.map((one) => ({ ...one, source })));
    for (const message of specs) {
      try {
        const order = orderOf(source, message);
        refuseTaken(order, orders);
        orders.set(order.spec.name, order);
      } catch (error) {
        refused.push({ source, item: message.name, error: toLonglineError(error) });
      }
    }
  }
  return { orders, refused };
}

function refuseTaken({ source, spec }: ProgramOrder, orders: ReadonlyMap<string, ProgramOrder>): void {
  const other = orders.get(spec.name);
  if (other === undefined) return;
  const whose = other.source === source ? 'twice' : `also ${WHERE[other.source]}, which comes first`;
  throw new LonglineError('already_exists', `name: program ${spec.name} was asked for ${whose}`);
}

const WHERE: Readonly<Record<ArtifactOrigin, string>> = {
  local: 'on this host',
  controller: 'by the controller',
  registry: 'by the registry',
};

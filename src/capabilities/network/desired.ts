// What a controller wants, generation after generation: full states and deltas become one canonical state, whose digest both sides
// can compare. Pure. A delta that doesn't fit is refused as a whole, since nobody could say any more what is wanted.
import { hash } from 'node:crypto';
import { checkSequence, type StateRef } from '../../core/desired-state.ts';
import { LonglineError } from '../../core/errors.ts';
import { applyNetworkDelta } from '../../core/network-state.ts';
import { encodeDesiredState, type NetworkDesiredState, type NetworkSpecMessage } from './wire.ts';

/** All that a controller wants, as of one generation. */
export interface Held extends StateRef {
  /** In canonical order. */
  readonly networks: readonly NetworkSpecMessage[];
}

const DIGEST_BYTES = 16;

/** The state that follows. `baseGeneration` 0 makes `state` a full one. Throws `stale` or `invalid` if it doesn't fit. */
export function follow(
  held: Held | undefined,
  generation: bigint,
  baseGeneration: bigint,
  state: NetworkDesiredState,
): Held {
  checkSequence(held, generation, baseGeneration);
  if (generation === held?.generation && baseGeneration !== 0n) return held;
  if (baseGeneration === 0n && state.removedNetworks.length + state.peerDeltas.length > 0) {
    const field = state.removedNetworks.length > 0 ? 'removed_networks' : 'peer_deltas';
    throw new LonglineError('invalid', `${field}: a full state has none; they belong to a delta`);
  }
  const networks = applyNetworkDelta(baseGeneration === 0n ? [] : held!.networks, state);
  const next = { generation, networks, digest: digestOf(networks) };
  if (generation !== held?.generation || Buffer.compare(next.digest, held.digest) === 0) return next;
  throw new LonglineError('stale', `generation ${generation} is held already, and another state; take the next one`);
}

function digestOf(networks: readonly NetworkSpecMessage[]): Uint8Array {
  const body = encodeDesiredState({ networks: [...networks] });
  return Uint8Array.from(hash('sha256', body, 'buffer').subarray(0, DIGEST_BYTES));
}

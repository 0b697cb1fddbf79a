// What a controller wants, generation after generation: full states and deltas become one canonical state, whose digest both sides
// can compare. Pure. A delta that doesn't fit is refused as a whole, since nobody could say any more what is wanted.
import type { StateRef } from '../../core/desired-state.ts';
import { LonglineError } from '../../core/errors.ts';
import { followState, type StateForm, stateDigest } from '../../core/held-state.ts';
import { applyNetworkDelta } from '../../core/network-state.ts';
import { decodeDesiredState, encodeDesiredState, type NetworkDesiredState, type NetworkSpecMessage } from './wire.ts';

/** All that a controller wants, as of one generation. */
export interface Held extends StateRef {
  /** In canonical order. */
  readonly networks: readonly NetworkSpecMessage[];
}

/** How networks are held. */
export const NETWORK_FORM: StateForm<Held> = {
  follow: (held, generation, baseGeneration, body) =>
    follow(held, generation, baseGeneration, decodeDesiredState(body)),
  encode: ({ networks }) => encodeDesiredState({ networks: [...networks] }),
};

/** The state that follows. `baseGeneration` 0 makes `state` a full one. Throws `stale` or `invalid` if it doesn't fit. */
export function follow(
  held: Held | undefined,
  generation: bigint,
  baseGeneration: bigint,
  state: NetworkDesiredState,
): Held {
  return followState(held, generation, baseGeneration, () => {
    if (baseGeneration === 0n && state.removedNetworks.length + state.peerDeltas.length > 0) {
      const field = state.removedNetworks.length > 0 ? 'removed_networks' : 'peer_deltas';
      throw new LonglineError('invalid', `${field}: a full state has none; they belong to a delta`);
    }
    const networks = applyNetworkDelta(baseGeneration === 0n ? [] : held!.networks, state);
    return { generation, networks, digest: stateDigest(encodeDesiredState({ networks: [...networks] })) };
  });
}

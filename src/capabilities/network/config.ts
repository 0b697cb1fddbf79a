// Bounds of networks on this host.
import type { BackendChoice } from '../../core/network/network-spec.ts';

/** Settings of the capability. */
export interface NetworkConfig {
  /** For networks that don't say. */
  readonly backend: BackendChoice;
  /** Longest time between two looks at an interface. */
  readonly reconcileIntervalMs: number;
  /** Peers that are told of one by one; figures are over all. */
  readonly peerDetails: number;
}

export const DEFAULT_NETWORK_CONFIG: NetworkConfig = {
  backend: 'auto',
  reconcileIntervalMs: 30_000,
  peerDetails: 1000,
};

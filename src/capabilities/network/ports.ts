// What the network capability needs of a WireGuard, whichever it is: the kernel's, wireguard-go or boringtun.
import type { FoundDevice } from './device.ts';
import type { DeviceChange } from './plan.ts';

export type { FoundDevice, FoundPeer, PeerState } from './device.ts';
export type { DeviceChange, PeerChange, PeerFields } from './plan.ts';

/** One interface that exists. Both calls end within a limit of the adapter's. */
export interface WireguardDevice {
  /** What is there now. */
  read(signal?: AbortSignal): Promise<FoundDevice>;
  /**
   * Writes a change in its order. It is no transaction: what came before a refused part stays written, so after an error
   * the interface has to be read and the change planned again.
   */
  write(change: DeviceChange, signal?: AbortSignal): Promise<void>;
}

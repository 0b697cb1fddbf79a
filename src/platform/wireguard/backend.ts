// What every WireGuard of a host has in common for whoever makes interfaces: whether it can be had, making, judging, removing.
import type { InterfaceRequest, WireguardDevice } from '../../capabilities/network/ports.ts';
import type { Backend } from '../../core/network/network-spec.ts';
import type { InterfaceRecord } from './interface-record.ts';

/** Writes down what is about to be true. */
export type SaveRecord = (change: Partial<InterfaceRecord>) => Promise<void>;

/** One kind of WireGuard on this host. */
export interface WireguardBackend {
  readonly kind: Backend;
  /** Why it can't be had here, with the mend; undefined if it can. Leaves nothing behind. */
  missing(signal?: AbortSignal): Promise<string | undefined>;
  /** What is amiss with an interface of ours; undefined if it is whole. Reads only, and costs little. */
  fault(record: InterfaceRecord, signal?: AbortSignal): Promise<string | undefined>;
  /** Resolves if it answers. Throws `unavailable` if it doesn't within a limit. */
  alive(realName: string, signal?: AbortSignal): Promise<void>;
  /** Why what is there can't do what is asked for, though it is whole; undefined if it can. */
  shortOf(record: InterfaceRecord, request: InterfaceRequest): string | undefined;
  /** Makes the interface, or what is missing of it. What it leaves behind if it is killed is known by record or label. */
  make(request: InterfaceRequest, save: SaveRecord, signal?: AbortSignal): Promise<void>;
  /** Ends what keeps the interface working, if anything does; the link stays. */
  halt(record: InterfaceRecord): Promise<void>;
  /** Removes all there is of an interface of ours, whatever state it is in. */
  clear(record: InterfaceRecord, signal?: AbortSignal): Promise<void>;
  device(realName: string): WireguardDevice;
}

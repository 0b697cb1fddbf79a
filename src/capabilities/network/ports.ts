// What the network capability needs of a host: a WireGuard, whichever it is (the kernel's, wireguard-go or boringtun), and the
// system's links, name servers and forwarding.

import type { LonglineError } from '../../core/errors.ts';
import type { Backend, BackendChoice } from '../../core/network/network-spec.ts';
import type { SecretKey } from '../../core/wireguard-keys.ts';
import type { FoundDevice } from './device.ts';
import type { FoundLink, LinkStep } from './link.ts';
import type { DeviceChange } from './plan.ts';

export type { StoredRecord } from '../../core/stored-record.ts';
export type { FoundDevice, FoundPeer, PeerState } from './device.ts';
export type { FoundLink, FoundRoute, LinkStep, Origin, Route, Rule } from './link.ts';
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

/** Whether a backend can be had here. */
export interface BackendStatus {
  readonly kind: Backend;
  /** Why not, with the mend; undefined if it can be had. */
  readonly missing: string | undefined;
}

/** An interface that is to be there. */
export interface InterfaceRequest {
  readonly name: string;
  /** `kernel` is wireguard-nt on Windows, and not to be had on macOS. */
  readonly backend: BackendChoice;
  readonly mtu: number;
  /** What it will be told: a daemon is left the privileges for it, and no others. */
  readonly fwmark: number;
  readonly listenPort: number | undefined;
  /** True: a WireGuard interface of this name that somebody else made is configured too, but never taken away. */
  readonly adoptForeign: boolean;
}

/** An interface that is there. Letting go of it changes nothing: it works on without us. */
export interface OpenInterface {
  /** As it was asked for. */
  readonly name: string;
  /** As the system has it: utunN on macOS, elsewhere the same. Routes and addresses need this one. */
  readonly realName: string;
  readonly kind: Backend;
  /** False: it was made anew and has no key or peers yet. Addresses and routes stay if only its daemon had ended. */
  readonly adopted: boolean;
  /** True: somebody else made it. */
  readonly foreign: boolean;
  readonly device: WireguardDevice;
  /**
   * Resolves with what happened once it is not whole any more: daemon ended, socket removed, link gone or made anew by others.
   * To mend it, open it again. Rejects with the signal's reason.
   */
  lost(signal: AbortSignal): Promise<string>;
}

/** An interface that we made or adopted, whether or not it is whole. */
export interface KnownInterface {
  readonly name: string;
  readonly realName: string;
  readonly kind: Backend;
  readonly foreign: boolean;
}

/** Makes, adopts and takes away interfaces. Calls for the same name run one after another; all end within a limit. */
export interface WireguardInterfaces {
  /** What can be had here, in order of preference. Leaves nothing behind. */
  backends(signal?: AbortSignal): Promise<readonly BackendStatus[]>;
  /**
   * Adopts what is there and ours, mends or makes the rest. Cheap if nothing is amiss, so that it may be called before each
   * pass. Throws `already_exists` naming who has the name, and `unavailable` or `unsupported` naming what is missing and
   * how to get it.
   */
  open(request: InterfaceRequest, signal?: AbortSignal): Promise<OpenInterface>;
  list(signal?: AbortSignal): Promise<readonly KnownInterface[]>;
  /** Takes away one of ours with its daemon; a foreign one is only forgotten. Nothing happens if it isn't known. */
  remove(name: string, signal?: AbortSignal): Promise<void>;
}

/** Where secret keys come from. A source is an absolute path, or "env:NAME". */
export interface KeyStore {
  /** Throws `not_found`, `policy` if others may read the file, `invalid` if it holds no key; never shows what it holds. */
  read(source: string): Promise<SecretKey>;
  /** Makes a key in a new file that only its owner may read; `already_exists` if there is one. */
  generate(path: string): Promise<SecretKey>;
  /** Why keys could be swapped to disk, with the mend; undefined if the memory that holds them is locked. */
  readonly unlocked: string | undefined;
}

/** Finds addresses of endpoints that are given by name. */
export interface EndpointResolver {
  /**
   * Address and port by endpoint, for those that could be resolved now or earlier: the last good answer stands until there is
   * a new one. A name keeps its address as long as it is among its addresses, but those of `failing` get another, if there is
   * one. Ends within a limit; doesn't throw for a name that can't be resolved.
   */
  resolve(
    endpoints: Iterable<string>,
    signal?: AbortSignal,
    failing?: ReadonlySet<string>,
  ): Promise<ReadonlyMap<string, string>>;
}

/** A step that the system refused. */
export interface LinkRefusal {
  readonly step: LinkStep;
  readonly error: LonglineError;
}

/** Network interfaces of the system: addresses, MTU, routes and rules. Every call ends within a limit of the adapter's. */
export interface LinkDriver {
  /** True if the system keeps with a route whose it is; else the record has to. */
  readonly marksRoutes: boolean;
  /** True if packets can be told by a mark which table they go by. */
  readonly hasRules: boolean;
  /** What is there of an interface, which may be absent. */
  read(name: string, signal?: AbortSignal): Promise<FoundLink>;
  /**
   * Takes steps in order. It is no transaction: a refused one keeps none of the others from being taken. Throws only if it is
   * unknown which were.
   */
  apply(name: string, steps: readonly LinkStep[], signal?: AbortSignal): Promise<readonly LinkRefusal[]>;
}

/** Settings of the kernel by path: "net/ipv4/ip_forward". */
export interface Sysctls {
  /** Undefined if the kernel has no such setting. */
  read(key: string): Promise<string | undefined>;
  /** Writes only what isn't so already, and is true if it wrote. Throws `wrong_state` if it can't be had. */
  ensure(key: string, value: string): Promise<boolean>;
}

/** Rules of a firewall that belong to one interface. */
export interface FirewallRules {
  /** Packets that others send from these prefixes leave by the interface under its own address. */
  readonly masquerade: readonly string[];
  /** Replies to packets with this mark get it too, so that a strict check of sources knows which way they came. */
  readonly replyMark: number | undefined;
}

/** A firewall in which each interface has a table of ours. */
export interface Firewall {
  /** Makes the table be so in one transaction; undefined takes it away. Writes only what isn't so; true if it wrote. */
  apply(interfaceName: string, rules: FirewallRules | undefined, signal?: AbortSignal): Promise<boolean>;
  /** True if rules of somebody else translate addresses or judge packets that are passed on. */
  othersForward(signal?: AbortSignal): Promise<boolean>;
}

/** Whom to ask for names while an interface is up. */
export interface WantedNameServers {
  /** Addresses, in order. */
  readonly servers: readonly string[];
  /** "corp.example" is searched and asked for there, "~corp.example" only asked for there, "~." is all names, as none are. */
  readonly domains: readonly string[];
}

/** Whether a way of making name servers known can be used. */
export type NameServersProbe =
  /** The host asks by it. */
  | { readonly kind: 'in_use' }
  /** It works, but as far as can be seen nobody on the host asks by it. */
  | { readonly kind: 'usable' }
  /** It doesn't work, and why. */
  | { readonly kind: 'missing'; readonly why: string };

/** One way of making name servers known to a host: systemd-resolved, resolvconf, resolv.conf, dnsmasq, or the system's own. */
export interface NameServers {
  readonly kind: 'resolved' | 'resolvconf' | 'file' | 'dnsmasq' | 'scutil' | 'netsh';
  probe(signal?: AbortSignal): Promise<NameServersProbe>;
  /** Makes it so for an interface, writing only what isn't so. Gives what of it can't be had this way. */
  apply(interfaceName: string, wanted: WantedNameServers, signal?: AbortSignal): Promise<readonly string[]>;
  /** Takes away what was set for an interface, which may be gone; what others have set since stays. */
  remove(interfaceName: string, signal?: AbortSignal): Promise<void>;
}

/** Keys that the agent itself makes and keeps, by network and epoch. */
export interface OwnKeys {
  /** Made if it isn't there; on disk when it resolves. */
  key(network: string, epoch: number): Promise<SecretKey>;
  /** Epochs of the keys of a network that are there. */
  epochs(network: string): Promise<readonly number[]>;
  /** Forgets one for good. */
  forget(network: string, epoch: number): Promise<void>;
}

/** The host, as far as networks go. */
export interface NetworkSystem {
  readonly interfaces: WireguardInterfaces;
  readonly links: LinkDriver;
  readonly sysctls: Sysctls;
  readonly firewall: Firewall;
  /** In the order in which they are preferred. */
  readonly nameServers: readonly NameServers[];
  readonly keys: KeyStore;
  readonly ownKeys: OwnKeys;
  readonly resolver: EndpointResolver;
}

/** Where figures go. */
export interface NetworkReports {
  /** A serialised longline.v1.NetworkTelemetry. Quick, and doesn't throw. */
  measured(telemetry: Uint8Array): void;
}

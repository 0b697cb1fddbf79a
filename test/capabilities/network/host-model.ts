// A host with WireGuard interfaces, routing and keys in memory. It outlives the capabilities that work on it, as a host outlives an
// agent, and can stop one dead at any write.

import type { FoundDevice, FoundPeer } from '../../../src/capabilities/network/device.ts';
import type {
  BackendStatus,
  DeviceChange,
  FirewallRules,
  InterfaceRequest,
  KnownInterface,
  LinkStep,
  NetworkSystem,
  OpenInterface,
  WantedNameServers,
} from '../../../src/capabilities/network/ports.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { SecretKey } from '../../../src/core/wireguard-keys.ts';
import { DeviceModel } from './device-model.ts';
import { LinkModel } from './link-model.ts';

interface ModelInterface {
  readonly foreign: boolean;
  readonly model: DeviceModel;
  readonly link: LinkModel;
  readonly lost: Set<(reason: string) => void>;
}

/** Thrown in place of an effect: the process is dead from here on. */
export class Killed extends Error {}

/** One host. */
export class HostModel implements NetworkSystem {
  readonly devices = new Map<string, ModelInterface>();
  /** Interfaces that the agent knows as its own or adopted. */
  readonly known = new Map<string, KnownInterface>();
  readonly keyFiles = new Map<string, string>();
  readonly ownKeyFiles = new Map<string, SecretKey>();
  /** Answers of name servers: "hub.example:51820" to "192.0.2.1:51820". */
  readonly names = new Map<string, string>();
  readonly asked: string[] = [];
  /** Every write to a device, in order. */
  readonly writes: DeviceChange[] = [];
  /** Looks at devices so far. */
  reads = 0;
  onWrite: () => void = () => undefined;
  missing: string | undefined;
  /** Effects until the process is killed. */
  killAfter = Number.POSITIVE_INFINITY;
  /** Public keys of peers that WireGuard refuses. */
  readonly refusedPeers = new Set<string>();
  #madeKeys = 0;

  /** Counts an effect of the agent. */
  effect(): void {
    this.killAfter -= 1;
    if (this.killAfter < 0) throw new Killed('killed');
  }

  /** Makes an interface as somebody else would. */
  make(name: string, foreign = true): ModelInterface {
    const empty: FoundDevice = { publicKey: undefined, listenPort: 50_000, fwmark: 0, peers: new Map() };
    const link = new LinkModel();
    link.onStep = () => this.effect();
    const made = { foreign, model: new DeviceModel(empty), link, lost: new Set<(reason: string) => void>() };
    this.devices.set(name, made);
    return made;
  }

  /** An interface vanishes, as when its daemon is killed. */
  lose(name: string, reason: string): void {
    const gone = this.devices.get(name)!;
    this.devices.delete(name);
    for (const tell of gone.lost) tell(reason);
  }

  /** Changes what is found of a peer. */
  setPeer(name: string, publicKey: string, change: Partial<FoundPeer>): void {
    this.devices.get(name)!.model.setPeer(publicKey, change);
  }

  readonly interfaces = {
    backends: async (): Promise<readonly BackendStatus[]> => [{ kind: 'wireguard-go', missing: this.missing }],
    list: async () => [...this.known.values()],
    open: async (request: InterfaceRequest): Promise<OpenInterface> => this.#openInterface(request),
    remove: async (name: string): Promise<void> => {
      this.effect();
      if (this.known.get(name)?.foreign === false) this.devices.delete(name);
      this.known.delete(name);
    },
  };

  readonly links = {
    marksRoutes: true,
    hasRules: true,
    read: async (name: string) => {
      const there = this.devices.get(name)?.link;
      const found = await (there ?? new LinkModel()).read();
      return there === undefined ? { ...found, state: 'absent' as const } : found;
    },
    apply: async (name: string, steps: readonly LinkStep[]) => await this.devices.get(name)!.link.apply(name, steps),
  };

  readonly switches = new Map([
    ['kernel/random/boot_id', 'boot 1'],
    ['net/ipv4/ip_forward', '0'],
    ['net/ipv6/conf/all/forwarding', '0'],
  ]);
  readonly firewallRules = new Map<string, FirewallRules>();

  readonly sysctls = {
    read: async (key: string) => this.switches.get(key),
    ensure: async (key: string, value: string) => {
      if (this.switches.get(key) === value) return false;
      this.effect();
      this.switches.set(key, value);
      return true;
    },
  };

  readonly firewall = {
    othersForward: async () => false,
    apply: async (name: string, rules: FirewallRules | undefined) => {
      if (JSON.stringify(rules) === JSON.stringify(this.firewallRules.get(name))) return false;
      this.effect();
      if (rules === undefined) this.firewallRules.delete(name);
      else this.firewallRules.set(name, rules);
      return true;
    },
  };

  /** Name servers by interface. */
  readonly resolving = new Map<string, WantedNameServers>();

  readonly nameServers = [
    {
      kind: 'resolved' as const,
      probe: async () => ({ kind: 'in_use' as const }),
      apply: async (name: string, wanted: WantedNameServers) => {
        if (JSON.stringify(wanted) === JSON.stringify(this.resolving.get(name))) return [];
        this.effect();
        this.resolving.set(name, wanted);
        return [];
      },
      remove: async (name: string) => {
        this.effect();
        this.resolving.delete(name);
      },
    },
  ];

  readonly keys = {
    unlocked: undefined,
    generate: async () => {
      throw new Error('the capability makes no files');
    },
    read: async (source: string) => {
      const text = this.keyFiles.get(source);
      if (text === undefined) throw new LonglineError('not_found', `${source} is not there`);
      return SecretKey.parse(text)!;
    },
  };

  readonly ownKeys = {
    key: async (network: string, epoch: number) => {
      const name = `${network}.${epoch}`;
      const key =
        this.ownKeyFiles.get(name) ?? SecretKey.parse(Buffer.alloc(32, 150 + ++this.#madeKeys).toString('base64'))!;
      if (!this.ownKeyFiles.has(name)) this.effect();
      this.ownKeyFiles.set(name, key);
      return key;
    },
    epochs: async (network: string) =>
      [...this.ownKeyFiles.keys()]
        .filter((name) => name.startsWith(`${network}.`))
        .map((name) => Number(name.slice(network.length + 1))),
    forget: async (network: string, epoch: number) => {
      this.effect();
      this.ownKeyFiles.delete(`${network}.${epoch}`);
    },
  };

  readonly resolver = {
    resolve: async (endpoints: Iterable<string>) => {
      const asked = [...endpoints];
      this.asked.push(...asked);
      return new Map(asked.flatMap((endpoint) => [...this.names].filter(([name]) => name === endpoint)));
    },
  };

  #openInterface({ adoptForeign, name }: InterfaceRequest): OpenInterface {
    const there = this.devices.get(name);
    const isKnown = this.known.has(name);
    if (there !== undefined && !isKnown && !adoptForeign) {
      throw new LonglineError('already_exists', `"${name}" is there, and somebody else's`);
    }
    const foreign = there !== undefined && !isKnown ? true : (there?.foreign ?? false);
    this.known.set(name, { name, realName: name, kind: 'wireguard-go', foreign });
    if (there === undefined) this.effect();
    const device = there ?? this.make(name, false);
    return {
      ...{ name, realName: name, kind: 'wireguard-go', foreign, adopted: there !== undefined },
      device: {
        read: async () => {
          this.reads += 1;
          if (this.devices.get(name) !== device) throw new LonglineError('unavailable', `"${name}" can't be reached`);
          return device.model.state;
        },
        write: async (change) => {
          if (this.devices.get(name) !== device) throw new LonglineError('unavailable', `"${name}" can't be reached`);
          this.#write(device.model, change);
        },
      },
      lost: (signal) =>
        new Promise((resolve, reject) => {
          device.lost.add(resolve);
          signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        }),
    };
  }

  #write(model: DeviceModel, change: DeviceChange): void {
    const { peers, ...own } = change;
    this.writes.push(change);
    this.onWrite();
    if (Object.keys(own).length > 0) {
      this.effect();
      model.write({ ...own, peers: [] });
    }
    for (const peer of peers) {
      if (this.refusedPeers.has(peer.publicKey)) throw new LonglineError('invalid', 'WireGuard refused a peer');
      this.effect();
      model.write({ peers: [peer] });
    }
  }
}

// Capability "network": WireGuard networks of this host, each brought about and kept as it is wanted by the controller, by programs of
// the host, or by a file. It knows WireGuard, routing and files by its ports only. What is wanted is on disk before anything is done, and
// is enforced from there while there is no controller; losing that, the agent or a daemon disturbs nothing that works. What can't be
// had is told as a problem of its network or peer, and tried again. Disposing leaves all networks as they are.
import type {
  Availability,
  Capability,
  CapabilityCommand,
  CapabilityEvent,
  CapabilityHealth,
  CapabilityHost,
  CommandContext,
  HealthChecked,
  Recoverable,
  StateStore,
} from '../../core/capability.ts';
import type { Reconciler, StateChange, StateObserver, StateRef } from '../../core/desired-state.ts';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import { HeldState } from '../../core/held-state.ts';
import { HostEvents } from '../../core/host-events.ts';
import { draftOf } from '../../core/network/network-message.ts';
import { MAX_PEERS, type NetworkSpec } from '../../core/network/network-spec.ts';
import type { Progress } from '../../core/progress.ts';
import { StateTeller } from '../../core/state-teller.ts';
import { storedRecord } from '../../core/stored-record.ts';
import { noTracer, type Tracer } from '../../core/tracer.ts';
import { Turns } from '../../core/turns.ts';
import { type Arrangement, arrange, refuseClash } from './arrangement.ts';
import type { NetworkConfig } from './config.ts';
import { type Held, NETWORK_FORM } from './desired.ts';
import { Forwarding, NO_FORWARDING } from './forwarding.ts';
import { type EnvironmentKey, HostKeys } from './keys.ts';
import { LocalNetworks } from './local-networks.ts';
import { NameResolution, NO_NAME_RESOLUTION } from './name-resolution.ts';
import { Network } from './network.ts';
import { type NetworkOrder, strictOrder } from './order.ts';
import type { BackendStatus, NetworkReports, NetworkSystem } from './ports.ts';
import { NetworkRecords } from './record.ts';
import type { NetworkServices } from './services.ts';
import { type NetworkView, networksHealth, type Problem, type RunState, withoutFigures } from './status.ts';
import { encodeStateDetail, encodeTelemetry, type NetworkSpecMessage, statusMessage } from './wire.ts';

/** What the capability is made from. */
export interface NetworkCapabilityOptions {
  /** Makes the host's side, which keeps its records in the same store under names of its own. Called once. */
  readonly systemOn: (state: StateStore) => NetworkSystem;
  readonly environmentKey: EnvironmentKey;
  readonly reports: NetworkReports;
  readonly config: NetworkConfig;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
}

/** What came of asking for a network. */
export interface AppliedNetwork {
  /** As it is; undefined if it was only checked. */
  readonly view: NetworkView | undefined;
  readonly warnings: readonly Problem[];
}

/** Longest wait for a network to be up or gone; it goes on by itself after that. */
const WAIT_MS = 60_000;

/** The network capability. */
export class NetworkCapability implements Capability, Recoverable, HealthChecked, Reconciler {
  readonly name = 'network';
  readonly desiredStateKind = 'network';
  readonly #options: NetworkCapabilityOptions;
  readonly #networks = new Map<string, Network>();
  readonly #teller = new StateTeller();
  #parts:
    | { readonly services: NetworkServices; readonly held: HeldState<Held>; readonly local: LocalNetworks }
    | undefined;
  #filed: readonly NetworkOrder[] = [];
  #arrangement: Arrangement = { orders: new Map(), refused: [] };
  #begun = false;

  constructor(options: NetworkCapabilityOptions) {
    this.#options = options;
  }

  async open(host: CapabilityHost): Promise<Availability> {
    if (this.#parts === undefined) await this.#load(host);
    const { system } = this.#open().services;
    try {
      return this.#available(await system.interfaces.backends(host.signal), system.keys.unlocked);
    } catch (error) {
      return { available: false, reason: toLonglineError(error).message, mend: MEND };
    }
  }

  /** As Recoverable.adopt: everything that is wanted is brought about from here on, and what isn't any more is taken away. */
  async adopt(): Promise<void> {
    const { services } = this.#open();
    this.#begun = true;
    for (const record of await services.records.all()) {
      services.interfaces.set(record.interface, record.name);
      const network = new Network(record.name, record, services, this.#listener);
      this.#networks.set(record.name, network);
    }
    this.#arrange();
  }

  async *handle(_command: CapabilityCommand, _context: CommandContext): AsyncGenerator<CapabilityEvent> {
    const message = 'networks are brought about by desired states, not by commands';
    yield {
      kind: 'result',
      outcome: 'failed',
      detail: new Uint8Array(),
      error: new LonglineError('unsupported', message),
    };
  }

  async applyState(change: StateChange): Promise<void> {
    const { held } = this.#open();
    await held.take(change);
    this.#arrange();
  }

  held(): StateRef | undefined {
    return this.#parts?.held.held;
  }

  observeState(observer: StateObserver): void {
    this.#teller.observer = observer;
  }

  /** Makes a network of this host be so, and keeps it so. Resolves once a pass over it is over, however it went. */
  async applyLocal(spec: NetworkSpecMessage, validateOnly: boolean): Promise<AppliedNetwork> {
    const { local } = this.#open();
    const order = strictOrder('local', draftOf(spec));
    refuseClash(order, this.#arrangement.orders.values());
    if (validateOnly) return { view: undefined, warnings: order.problems };
    await local.put(spec);
    await this.#within(this.#arrange().get(spec.name));
    return { view: await this.#networks.get(spec.name)?.look(), warnings: order.problems };
  }

  /** Takes a network away that was asked for here. Resolves once it is gone; throws `late` if that takes long. */
  async removeLocal(name: string): Promise<void> {
    const { local } = this.#open();
    const source = this.#arrangement.orders.get(name)?.source;
    if (source !== undefined && source !== 'local') {
      const whose = source === 'controller' ? 'the controller' : 'the file of networks';
      throw new LonglineError('wrong_state', `name: network ${name} was asked for by ${whose}; take it away there`);
    }
    const going = this.#networks.get(name);
    if (!local.has(name) && going === undefined) throw unknownNetwork(name, this.#networks.keys());
    await local.delete(name);
    await this.#within(this.#arrange().get(name));
    // It stays if the controller wants one of the same name, which had to wait for this.
    if (going !== undefined && this.#networks.get(name) === going && !this.#arrangement.orders.has(name)) {
      throw new LonglineError('late', `network ${name} is not gone yet: ${problemsOf(going)}; it is tried again`);
    }
  }

  /** Says what the file of networks wants. Resolves once a pass over all networks is over, or the signal aborts. */
  async applyFiled(specs: readonly NetworkSpec[], signal?: AbortSignal): Promise<void> {
    const { local } = this.#open();
    const orders = specs.map((spec): NetworkOrder => ({ source: 'file', spec, problems: [], refused: [] }));
    for (const order of orders) refuseClash(order, local.orders());
    this.#filed = orders;
    await this.#within(Promise.all(this.#arrange().values()), signal);
  }

  /** Takes all networks away that were asked for on this host. Resolves once they are gone. */
  async removeAll(): Promise<void> {
    const { local } = this.#open();
    this.#filed = [];
    for (const { spec } of [...local.orders()]) await local.delete(spec.name);
    await this.#untilGone(this.#arrange().values());
  }

  /**
   * Takes networks away that earlier processes left, all or those of these names; the others stay. In place of `adopt`, for a process that
   * keeps none. Gives the names once they are gone. The controller's are not taken: theirs are keys that it counts on.
   */
  async takeDown(names?: readonly string[]): Promise<readonly string[]> {
    const { services, local } = this.#open();
    const records = await services.records.all();
    const ours = records.filter(({ source }) => source !== 'controller');
    const known = new Set([...ours.map(({ name }) => name), ...[...local.orders()].map(({ spec }) => spec.name)]);
    for (const name of names ?? []) if (!known.has(name)) throw unknownNetwork(name, known);
    const going = new Set(names ?? known);
    for (const name of going) await local.delete(name);
    for (const record of records) services.interfaces.set(record.interface, record.name);
    const networks = ours
      .filter(({ name }) => going.has(name))
      .map((record) => new Network(record.name, record, services, this.#listener));
    for (const network of networks) this.#networks.set(network.name, network);
    await this.#untilGone(networks.map((network) => network.want(undefined)));
    return [...going].sort();
  }

  /** All networks with their peers as they are now, in the order of names. */
  async look(): Promise<readonly NetworkView[]> {
    const views = await Promise.all([...this.#networks.values()].map((network) => network.look()));
    return views.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Whether each network gets on. */
  get progress(): readonly Progress[] {
    return [...this.#networks.values()].map(({ progress }) => progress);
  }

  /** How many there are in each state. */
  get states(): ReadonlyMap<RunState, number> {
    const states = new Map<RunState, number>();
    for (const { state } of this.#networks.values()) states.set(state, (states.get(state) ?? 0) + 1);
    return states;
  }

  async health(): Promise<CapabilityHealth> {
    return networksHealth([...this.#networks.values()].map((network) => network.view()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#networks.values()].map((network) => network[Symbol.asyncDispose]()));
  }

  readonly #listener = {
    passed: (network: Network) => {
      const status = statusMessage(network.view(), this.#open().services.clock.now(), true);
      this.#options.reports.measured(encodeTelemetry(status));
      this.#tell();
    },
    removed: (network: Network) => {
      this.#networks.delete(network.name);
      for (const other of this.#networks.values()) if (other.view().state === 'failed') other.wake();
      // Asked for again while it went.
      if (this.#arrangement.orders.has(network.name)) this.#arrange();
      this.#tell();
    },
  };

  #available(backends: readonly BackendStatus[], unlocked: string | undefined): Availability {
    const chosen = this.#options.config.backend;
    const usable = backends.filter(({ missing }) => missing === undefined).map(({ kind }) => kind);
    const attributes = {
      backends: usable.join(','),
      key_memory: unlocked === undefined ? 'locked' : `not locked: ${unlocked}`,
    };
    if (usable.length > 0) return { available: true, limits: { max_peers: MAX_PEERS }, attributes };
    const missing = new Set(backends.map((backend) => backend.missing));
    const reasons =
      missing.size === 1 ? [...missing].join() : backends.map((one) => `${one.kind}: ${one.missing}`).join('; ');
    return { available: false, reason: `no WireGuard can be had (${chosen} was asked for): ${reasons}`, mend: MEND };
  }

  async #load(host: CapabilityHost): Promise<void> {
    const { environmentKey, config, tracer = noTracer } = this.#options;
    const { clock, log, state } = host;
    const system = this.#options.systemOn(state);
    const held = new HeldState(state, NETWORK_FORM);
    await held.load();
    const local = new LocalNetworks(state);
    await local.load((network, error) => {
      log.error('a network that was asked for on this host is refused now', { network, err: describeError(error) });
    });
    const services: NetworkServices = {
      ...{ system, clock, log, tracer, state, config },
      keys: new HostKeys(system.keys, system.ownKeys, environmentKey),
      forwarding: new Forwarding(system.firewall, system.sysctls, storedRecord(state, 'forwarding', NO_FORWARDING)),
      nameResolution: new NameResolution(system.nameServers, storedRecord(state, 'dns', NO_NAME_RESOLUTION)),
      turns: new Turns(),
      records: new NetworkRecords(state),
      events: new HostEvents('network', (event) => host.emit(event), clock, log),
      interfaces: new Map(),
    };
    this.#parts = { services, held, local };
  }

  #open() {
    if (this.#parts === undefined) throw new LonglineError('wrong_state', 'networks were not opened yet');
    return this.#parts;
  }

  /** Tells each network what it is to be now; the promises say when each has passed over that. */
  #arrange(): ReadonlyMap<string, Promise<void>> {
    const { services, held, local } = this.#open();
    const drafts = (held.held?.networks ?? []).map(draftOf);
    this.#arrangement = arrange([...this.#filed, ...local.orders()], drafts);
    const passes = new Map<string, Promise<void>>();
    if (!this.#begun) return passes;
    const { orders, refused } = this.#arrangement;
    for (const [name, order] of orders) {
      const network = this.#networks.get(name) ?? new Network(name, undefined, services, this.#listener);
      this.#networks.set(name, network);
      passes.set(name, network.want(order));
    }
    const kept = new Set(refused.map(({ item }) => item));
    for (const [name, network] of this.#networks) {
      const isKept = kept.has(name) && network.view().source === 'controller';
      if (!orders.has(name) && !isKept) passes.set(name, network.want(undefined));
    }
    const generation = held.held?.generation;
    void Promise.all(passes.values()).then(() => {
      this.#teller.settled = generation;
      this.#tell();
    });
    return passes;
  }

  #tell(): void {
    const { held, services } = this.#open();
    if (held.held === undefined) return;
    const ofController = [...this.#networks.values()].filter((network) => network.view().source === 'controller');
    const items = [...this.#arrangement.refused, ...ofController.flatMap(({ refused }) => refused)];
    const nowMs = services.clock.now();
    this.#teller.tell(held.held, items, () =>
      encodeStateDetail(ofController.map((network) => statusMessage(withoutFigures(network.view()), nowMs, false))),
    );
  }

  async #untilGone(passes: Iterable<Promise<void>>): Promise<void> {
    await this.#within(Promise.all(passes));
    const left = [...this.#networks.values()].map((network) => `${network.name} (${problemsOf(network)})`);
    if (left.length > 0) throw new LonglineError('late', `these networks are not gone: ${left.join(', ')}`);
  }

  async #within(work: Promise<unknown> | undefined, signal?: AbortSignal): Promise<void> {
    const { clock } = this.#open().services;
    const over = new AbortController();
    const end = () => over.abort();
    signal?.addEventListener('abort', end, { once: true });
    if (signal?.aborted) end();
    await Promise.race([work, clock.sleep(WAIT_MS, over.signal).catch(() => undefined)]);
    signal?.removeEventListener('abort', end);
    over.abort();
  }
}

const MEND =
  'install wireguard-go or load the kernel module wireguard, and give the agent CAP_NET_ADMIN (see deploy/systemd/longline-network.service)';

function unknownNetwork(name: string, known: Iterable<string>): LonglineError {
  const names = [...known].sort().join(', ') || 'none';
  return new LonglineError('not_found', `name: there is no network "${name}"; there are: ${names}`);
}

function problemsOf(network: Network): string {
  return (
    network
      .view()
      .problems.map(({ field, message }) => `${field}: ${message}`)
      .join('; ') || 'it is under way'
  );
}

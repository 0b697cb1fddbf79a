// One network of this host, from the first effect to the last: brings it about, looks at it again and again, and takes it away. All it
// does is done by one loop, in passes that can be begun anew at any point; what it is to be may change at any time. Losing the interface
// or failing is no end: it is told, and tried again at growing intervals. Disposing leaves everything as it is.
import { Backoff } from '../../core/backoff.ts';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { BackendChoice, NetworkSpec } from '../../core/network/network-spec.ts';
import { type BroughtUp, bringUp } from './bring-up.ts';
import { Names } from './names.ts';
import { Observation } from './observation.ts';
import type { NetworkOrder, RefusedItem } from './order.ts';
import type { OpenInterface } from './ports.ts';
import type { NetworkRecord } from './record.ts';
import { removeNetwork } from './removal.ts';
import type { NetworkServices } from './services.ts';
import { type NetworkView, type Problem, peersOf, type RunState } from './status.ts';
import { WakeableSleep } from './wake.ts';
import { WrittenPeers } from './written-peers.ts';

const RETRY = { baseMs: 1_000, capMs: 30_000 } as const;
/** Names that are due are asked for no sooner than this after a pass. */
const LEAST_PAUSE_MS = 250;

type PassResult = Pick<BroughtUp, 'keys' | 'problems' | 'refused'>;
const NOTHING_YET: PassResult = { keys: [], problems: [], refused: [] };

/** Who hears of a network. */
export interface NetworkListener {
  /** A pass is over; how it went is in the view. */
  passed(network: Network): void;
  /** Nothing of it is left. */
  removed(network: Network): void;
}

/** One per name. */
export class Network implements AsyncDisposable {
  readonly name: string;
  readonly #services: NetworkServices;
  readonly #listener: NetworkListener;
  readonly #written: WrittenPeers;
  readonly #names: Names;
  readonly #observation: Observation;
  readonly #sleep: WakeableSleep;
  readonly #backoff = new Backoff(RETRY);
  readonly #stop = new AbortController();
  #waiters: { readonly asked: number; readonly resolve: () => void }[] = [];
  /** How often something else was asked for. */
  #asked = 0;
  #order: NetworkOrder | undefined;
  #record: NetworkRecord | undefined;
  #open: OpenInterface | undefined;
  #watching: AbortController | undefined;
  #state: RunState = 'starting';
  #result: PassResult = NOTHING_YET;
  #reconciledAtMs: number | undefined;
  #loop: Promise<void> | undefined;

  /** @param record of an earlier process, if there is one. */
  constructor(name: string, record: NetworkRecord | undefined, services: NetworkServices, listener: NetworkListener) {
    this.name = name;
    this.#record = record;
    this.#services = services;
    this.#listener = listener;
    this.#written = new WrittenPeers(services.state, name);
    this.#names = new Names(services.system.resolver, services.clock);
    this.#observation = new Observation(name, services.events, this.#names);
    this.#sleep = new WakeableSleep(services.clock);
  }

  /** What it is to be; undefined if it is to go. */
  get order(): NetworkOrder | undefined {
    return this.#order;
  }

  /** Says what it is to be, or that it is to go. Resolves after a whole pass over that, however it went, or at the end. */
  async want(order: NetworkOrder | undefined): Promise<void> {
    this.#order = order;
    this.#asked += 1;
    if (order === undefined) this.#state = 'removing';
    this.#backoff.reset();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiters.push({ asked: this.#asked, resolve });
    this.#loop ??= this.#run();
    this.#sleep.ring();
    await promise;
  }

  /** Looks again soon. */
  wake(): void {
    this.#sleep.ring();
  }

  /** What couldn't be had at the last pass. */
  get refused(): readonly RefusedItem[] {
    return this.#result.refused;
  }

  /** As it is now, with its peers; as it was last known if that can't be found out. */
  async look(): Promise<NetworkView> {
    const [opened, order] = [this.#open, this.#order];
    if (opened !== undefined && order !== undefined) {
      try {
        this.#observation.take(await opened.device.read(this.#stop.signal), order, this.#services.clock.now());
      } catch (error) {
        this.#services.log.debug('a network could not be looked at', { network: this.name, err: describeError(error) });
        this.wake();
      }
    }
    return this.view();
  }

  /** As it was last known. */
  view(): NetworkView {
    const spec = this.#order?.spec;
    const { peerDetails } = this.#services.config;
    const { counters, found, healthOf } = this.#observation;
    const { keys, problems } = this.#result;
    return {
      name: this.name,
      source: this.#order?.source ?? this.#record?.source ?? 'local',
      interface: this.#record?.realName ?? this.#record?.interface ?? spec?.interface ?? '',
      state: this.#state,
      backend: this.#record?.backend,
      keys,
      keyEpoch: keys.find(({ publicKey }) => publicKey === found?.publicKey)?.epoch ?? spec?.keyEpoch ?? 0,
      listenPort: found?.listenPort,
      addresses: spec?.addresses ?? [],
      mtu: spec?.mtu ?? 0,
      problems,
      ...peersOf(found, spec, healthOf, peerDetails),
      ...counters,
      reconciledAtMs: this.#reconciledAtMs,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new LonglineError('cancelled', 'the network is let go of'));
    await this.#loop;
    this.#letGo();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    await this.#written.load();
    while (!signal.aborted) {
      const asked = this.#asked;
      const order = this.#order;
      const isGone = await this.#pass(order, signal);
      if (signal.aborted) break;
      this.#answer(asked);
      if (isGone && asked === this.#asked) {
        this.#loop = undefined;
        this.#listener.removed(this);
        return;
      }
      this.#listener.passed(this);
      await this.#sleep.sleep(this.#pauseMs(), signal);
    }
    this.#answer(Number.POSITIVE_INFINITY);
  }

  /** True if nothing is left of it. */
  async #pass(order: NetworkOrder | undefined, signal: AbortSignal): Promise<boolean> {
    try {
      if (order === undefined) await this.#takeAway(signal);
      else await this.#bringAbout(order, signal);
      this.#backoff.reset();
      return order === undefined;
    } catch (error) {
      if (signal.aborted) return false;
      this.#failed(order, toLonglineError(error), error);
      this.#letGo();
      return false;
    }
  }

  async #bringAbout(order: NetworkOrder, signal: AbortSignal): Promise<void> {
    const { clock } = this.#services;
    if (this.#isElsewhere(order)) await this.#takeAway(signal);
    const opened = await this.#ensureOpen(order, signal);
    const current = () => this.#record!;
    const kept = {
      get current() {
        return current();
      },
      keep: (change: Partial<NetworkRecord>) => this.#keep({ ...current(), ...change }),
    };
    const [services, written, names] = [this.#services, this.#written, this.#names];
    const result = await bringUp({ services, order, opened, written, names, record: kept }, signal);
    this.#reconciledAtMs = clock.now();
    if (result.found !== undefined) this.#observation.take(result.found, order, clock.now());
    this.#watchFor(opened);
    this.#become(result.problems.some(({ harmless }) => !harmless) ? 'degraded' : 'up', result);
  }

  /** Opens the interface, or sees that it is whole. */
  async #ensureOpen({ source, spec }: NetworkOrder, signal: AbortSignal): Promise<OpenInterface> {
    const { system, interfaces } = this.#services;
    const holder = interfaces.get(spec.interface) ?? this.name;
    if (holder !== this.name) {
      throw new LonglineError('unavailable', `"${spec.interface}" is still being taken from network ${holder}`);
    }
    interfaces.set(spec.interface, this.name);
    const names = { name: this.name, source, interface: spec.interface };
    // Before there is anything: whoever comes after a kill has to know what to look for.
    const nothing = { realName: undefined, backend: undefined, isForeign: false, forwards: false, resolves: false };
    await this.#keep({ ...nothing, ...this.#record, ...names });
    const { adoptInterface: adoptForeign, fwmark, listenPort, mtu } = spec;
    const request = { name: spec.interface, backend: this.#backendOf(spec), mtu, fwmark, listenPort, adoptForeign };
    const opened = await system.interfaces.open(request, signal);
    const { foreign: isForeign, kind: backend, realName } = opened;
    await this.#keep({ ...this.#record!, realName, backend, isForeign });
    if (!opened.adopted) await this.#written.clear();
    if (this.#open === undefined) this.#recall(spec);
    this.#open = opened;
    return opened;
  }

  /** Wakes when the interface is not whole any more. */
  #watchFor(opened: OpenInterface): void {
    this.#watching?.abort();
    const watching = new AbortController();
    this.#watching = watching;
    opened.lost(watching.signal).then(
      (reason) => {
        if (watching.signal.aborted) return;
        const message = `network ${this.name}: ${opened.realName}: ${reason}; it is mended`;
        this.#services.events.tell('interface_lost', this.name, message);
        this.wake();
      },
      (error: unknown) => {
        if (watching.signal.aborted) return;
        this.#services.log.warn('an interface is not watched', { network: this.name, err: describeError(error) });
      },
    );
  }

  /** True if what is there can't become what is wanted. */
  #isElsewhere({ spec }: NetworkOrder): boolean {
    const record = this.#record;
    if (record === undefined) return false;
    const backend = this.#backendOf(spec);
    const { backend: before = backend } = record;
    return record.interface !== spec.interface || (backend !== 'auto' && before !== backend);
  }

  #backendOf({ backend }: NetworkSpec): BackendChoice {
    return backend === 'auto' ? this.#services.config.backend : backend;
  }

  async #keep(record: NetworkRecord): Promise<void> {
    if (JSON.stringify(record) === JSON.stringify(this.#record)) return;
    await this.#services.records.put(record);
    this.#record = record;
  }

  /** Names keep the addresses that WireGuard has them at. */
  #recall(spec: NetworkSpec): void {
    const endpoints = this.#written.endpoints();
    for (const { endpoint, publicKey } of spec.peers) {
      const resolved = endpoints.get(publicKey);
      if (endpoint !== undefined && resolved !== undefined) this.#names.recall(endpoint, resolved);
    }
  }

  async #takeAway(signal: AbortSignal): Promise<void> {
    const record = this.#record;
    const { records, interfaces, keys } = this.#services;
    if (record !== undefined) {
      this.#letGo();
      await removeNetwork(this.#services, record, this.#written, signal);
      // A controller hands out keys by epochs; those of a network that it gave up are of no use to anybody.
      if (record.source === 'controller' && this.#order === undefined) await keys.forgetAll(this.name);
      await records.delete(this.name);
      interfaces.delete(record.interface);
    }
    this.#record = undefined;
    this.#observation.forget();
    this.#result = NOTHING_YET;
  }

  #failed(order: NetworkOrder | undefined, error: LonglineError, thrown: unknown): void {
    const { message, reason } = error;
    if (reason === 'internal') {
      this.#services.log.error('a pass over a network failed', { network: this.name, err: describeError(thrown) });
    }
    const field = error.violations[0]?.field ?? 'interface';
    const problems: Problem[] = [...(order?.problems ?? []), { field, message, harmless: false }];
    const refused = [...(order?.refused ?? []), { item: this.name, error }];
    this.#become(order === undefined ? 'removing' : 'failed', { keys: this.#result.keys, problems, refused });
  }

  #become(state: RunState, result: PassResult): void {
    const [before, told] = [this.#state, firstProblem(this.#result)];
    this.#state = state;
    this.#result = result;
    const problem = firstProblem(result);
    if (before === state && told === problem) return;
    const why = problem === undefined ? '' : `: ${problem}`;
    this.#services.events.tell(state, this.name, `network ${this.name} is ${state}${why}`);
  }

  #answer(asked: number): void {
    const answered = this.#waiters.filter((waiter) => waiter.asked <= asked);
    this.#waiters = this.#waiters.filter((waiter) => waiter.asked > asked);
    for (const { resolve } of answered) resolve();
  }

  #pauseMs(): number {
    if (this.#state === 'failed' || this.#state === 'removing') return this.#backoff.next(LEAST_PAUSE_MS);
    const { config, clock } = this.#services;
    const untilNameMs = this.#names.dueAtMs - clock.monotonic();
    return Math.max(LEAST_PAUSE_MS, Math.min(config.reconcileIntervalMs, untilNameMs));
  }

  #letGo(): void {
    this.#watching?.abort();
    this.#open = undefined;
  }
}

function firstProblem({ problems }: PassResult): string | undefined {
  const found = problems.find(({ harmless }) => !harmless);
  return found === undefined ? undefined : `${found.field}: ${found.message}`;
}

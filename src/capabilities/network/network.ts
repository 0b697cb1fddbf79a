// One network of this host, from the first effect to the last: brings it about, looks at it again and again, and takes it away. All it
// does is done by one loop, in passes that can be begun anew at any point; what it is to be may change at any time. Losing the interface
// or failing is no end: it is told, and tried again at growing intervals. Disposing leaves everything as it is.
import { isDeepStrictEqual } from 'node:util';
import { Backoff } from '../../core/backoff.ts';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { NetworkSpec } from '../../core/network/network-spec.ts';
import { PassTrace } from '../../core/pass-trace.ts';
import { Progress } from '../../core/progress.ts';
import { WakeableSleep } from '../../core/wakeable-sleep.ts';
import { type BroughtUp, bringUp, type PassMemory } from './bring-up.ts';
import { InterfaceHold } from './interface-hold.ts';
import { Names } from './names.ts';
import { Observation } from './observation.ts';
import type { NetworkOrder, RefusedItem } from './order.ts';
import type { OpenInterface } from './ports.ts';
import type { NetworkRecord } from './record.ts';
import { removeNetwork } from './removal.ts';
import type { NetworkServices } from './services.ts';
import { type NetworkView, NO_PASSES, type Passes, type Problem, peersOf, type RunState } from './status.ts';
import { WrittenPeers } from './written-peers.ts';

const RETRY = { baseMs: 1_000, capMs: 30_000 } as const;
/** Names that are due are asked for no sooner than this after a pass. */
const LEAST_PAUSE_MS = 250;
/** Longer than any pass takes whose parts all end by their own limits; with many peers, names and prefixes there are more parts. */
const PASS_LIMIT_MS = 300_000;
const PASS_LIMIT_OF_PEER_MS = 60;
/** By how much a look may begin late. */
const LATE_MS = 60_000;

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
  /** Whether its passes get on. */
  readonly progress: Progress;
  readonly #services: NetworkServices;
  readonly #listener: NetworkListener;
  readonly #hold: InterfaceHold;
  readonly #written: WrittenPeers;
  readonly #names: Names;
  readonly #observation: Observation;
  readonly #sleep: WakeableSleep;
  readonly #backoff = new Backoff(RETRY);
  readonly #trace: PassTrace;
  readonly #stop = new AbortController();
  #waiters: { readonly asked: number; readonly resolve: () => void }[] = [];
  /** How often something else was asked for. */
  #asked = 0;
  #order: NetworkOrder | undefined;
  #isLoaded = false;
  readonly #memory: PassMemory = { known: undefined, link: undefined };
  /** The last pass that came to its end; undefined if something happened since. */
  #passed: { readonly order: NetworkOrder; readonly isQuick: boolean } | undefined;
  #state: RunState = 'starting';
  #result: PassResult = NOTHING_YET;
  #reconciledAtMs: number | undefined;
  #passes: Passes = NO_PASSES;
  #loop: Promise<void> | undefined;

  /** @param record of an earlier process, if there is one. */
  constructor(name: string, record: NetworkRecord | undefined, services: NetworkServices, listener: NetworkListener) {
    this.name = name;
    this.progress = new Progress(`network ${name}`, services.clock);
    this.#services = services;
    this.#hold = new InterfaceHold(name, record, services, (reason) => this.#lost(reason));
    this.#listener = listener;
    this.#written = new WrittenPeers(services.state, name);
    this.#names = new Names(services.system.resolver, services.clock);
    this.#observation = new Observation(name, services.events, this.#names, services.clock);
    this.#sleep = new WakeableSleep(services.clock);
    this.#trace = new PassTrace(services.tracer, name);
  }

  /** What it is to be; undefined if it is to go. */
  get order(): NetworkOrder | undefined {
    return this.#order;
  }

  /** Says what it is to be, or that it is to go. Resolves after a whole pass over that, however it went, or at the end. */
  async want(order: NetworkOrder | undefined): Promise<void> {
    const before = this.#order;
    this.#trace.asked(() => !isDeepStrictEqual([before?.spec, before?.problems], [order?.spec, order?.problems]));
    this.#order = order;
    this.#asked += 1;
    if (order === undefined) this.#state = 'removing';
    this.#backoff.reset();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiters.push({ asked: this.#asked, resolve });
    this.#loop ??= this.#trace.begin(() => this.#run());
    this.#sleep.ring();
    await promise;
  }

  /** Looks again soon. */
  wake(): void {
    this.#sleep.ring();
  }

  get state(): RunState {
    return this.#state;
  }

  /** What couldn't be had at the last pass. */
  get refused(): readonly RefusedItem[] {
    return this.#result.refused;
  }

  /** As it is now, with its peers; as it was last known if that can't be found out. */
  async look(): Promise<NetworkView> {
    const [opened, order] = [this.#hold.opened, this.#order];
    if (opened !== undefined && order !== undefined) {
      try {
        this.#observation.take(await opened.device.read(this.#stop.signal), order);
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
    const { record } = this.#hold;
    const { peerDetails } = this.#services.config;
    const { counters, found, healthOf } = this.#observation;
    const { keys, problems } = this.#result;
    return {
      name: this.name,
      source: this.#order?.source ?? record?.source ?? 'local',
      interface: record?.realName ?? record?.interface ?? spec?.interface ?? '',
      state: this.#state,
      backend: record?.backend,
      keys,
      keyEpoch: keys.find(({ publicKey }) => publicKey === found?.publicKey)?.epoch ?? spec?.keyEpoch ?? 0,
      listenPort: found?.listenPort,
      addresses: spec?.addresses ?? [],
      mtu: spec?.mtu ?? 0,
      problems,
      ...peersOf(found, spec, healthOf, peerDetails),
      ...counters,
      reconciledAtMs: this.#reconciledAtMs,
      passes: this.#passes,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new LonglineError('cancelled', 'the network is let go of'));
    await this.#loop;
    this.#letGo();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const asked = this.#asked;
      const order = this.#order;
      const peers = order?.spec.peers.length ?? 0;
      this.progress.expect(PASS_LIMIT_MS + peers * PASS_LIMIT_OF_PEER_MS, 'a pass');
      const failed = () => (this.#state === 'failed' ? (this.#result.refused.at(-1)?.error ?? 'failed') : undefined);
      const isGone = await this.#trace.pass(() => this.#pass(order, signal), failed);
      if (signal.aborted) break;
      this.#answer(asked);
      if (isGone && asked === this.#asked) {
        this.#loop = undefined;
        this.progress.rest();
        this.#listener.removed(this);
        return;
      }
      this.#listener.passed(this);
      const pauseMs = this.#pauseMs();
      this.progress.expect(pauseMs + LATE_MS, 'the next pass');
      await this.#sleep.sleep(pauseMs, signal);
    }
    this.progress.rest();
    this.#answer(Number.POSITIVE_INFINITY);
  }

  /** True if nothing is left of it. */
  async #pass(order: NetworkOrder | undefined, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#services;
    const beganMs = clock.monotonic();
    try {
      this.#isLoaded ||= await this.#written.load().then(() => true);
      if (order === undefined) await this.#takeAway(signal);
      else await this.#bringAbout(order, signal);
      this.#backoff.reset();
      this.#count('succeeded', clock.monotonic() - beganMs);
      return order === undefined;
    } catch (error) {
      if (signal.aborted) return false;
      this.#count('failed', clock.monotonic() - beganMs);
      this.#failed(order, toLonglineError(error), error);
      this.#letGo();
      return false;
    }
  }

  async #bringAbout(order: NetworkOrder, signal: AbortSignal): Promise<void> {
    if (this.#hold.isElsewhere(order)) await this.#takeAway(signal);
    const { opened } = this.#hold;
    if (opened !== undefined && this.#isQuick(order)) {
      try {
        return await this.#passOver(order, opened, true, signal);
      } catch (error) {
        signal.throwIfAborted();
        this.#services.log.debug('a quick pass failed', { network: this.name, err: describeError(error) });
      }
    }
    const isNew = opened === undefined;
    const now = await this.#hold.open(order, signal);
    if (!now.adopted) await this.#written.clear();
    if (isNew) this.#recall(order.spec);
    await this.#passOver(order, now, false, signal);
    this.#hold.watch();
  }

  async #passOver(order: NetworkOrder, opened: OpenInterface, isQuick: boolean, signal: AbortSignal): Promise<void> {
    const [services, written, names, memory] = [this.#services, this.#written, this.#names, this.#memory];
    const parts = { services, order, opened, written, names, record: this.#hold, memory, isQuick };
    const result = await bringUp(parts, signal);
    const nowMs = services.clock.now();
    this.#passed = { order, isQuick };
    this.#reconciledAtMs = nowMs;
    if (result.found !== undefined) this.#observation.take(result.found, order);
    this.#become(result.problems.some(({ harmless }) => !harmless) ? 'degraded' : 'up', result);
  }

  /**
   * Other peers on an interface that a whole pass has just left as wanted are written without looking first: with thousands of them
   * the look takes longer than all the rest. Whatever else changes takes a whole pass.
   */
  #isQuick(order: NetworkOrder): boolean {
    const { known } = this.#memory;
    const passed = this.#passed;
    if (known === undefined || passed === undefined || passed.isQuick) return false;
    return passed.order !== order && sameButPeers(passed.order.spec, order.spec);
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
    const { record } = this.#hold;
    if (record !== undefined) {
      this.#letGo();
      await removeNetwork(this.#services, record, this.#written, signal);
      // A controller hands out keys by epochs; those of a network that it gave up are of no use to anybody.
      const isOver = record.source === 'controller' && this.#order === undefined;
      if (isOver) await this.#services.keys.forgetAll(this.name);
      await this.#hold.forget();
    }
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

  #count(how: 'succeeded' | 'failed', tookMs: number): void {
    const before = this.#passes;
    this.#passes = { ...before, [how]: before[how] + 1, tookMs: before.tookMs + tookMs };
  }

  #answer(asked: number): void {
    const answered = this.#waiters.filter((waiter) => waiter.asked <= asked);
    this.#waiters = this.#waiters.filter((waiter) => waiter.asked > asked);
    for (const { resolve } of answered) resolve();
  }

  #pauseMs(): number {
    if (this.#state === 'failed' || this.#state === 'removing') return this.#backoff.next(LEAST_PAUSE_MS);
    if (this.#passed?.isQuick) return LEAST_PAUSE_MS;
    const { config, clock } = this.#services;
    const untilNameMs = this.#names.dueAtMs - clock.monotonic();
    return Math.max(LEAST_PAUSE_MS, Math.min(config.reconcileIntervalMs, untilNameMs));
  }

  #lost(reason: string): void {
    this.#services.events.tell('interface_lost', this.name, `network ${this.name}: ${reason}; it is mended`);
    this.#passed = undefined;
    this.wake();
  }

  #letGo(): void {
    this.#hold.letGo();
    this.#passed = undefined;
  }
}

function firstProblem({ problems }: PassResult): string | undefined {
  const found = problems.find(({ harmless }) => !harmless);
  return found === undefined ? undefined : `${found.field}: ${found.message}`;
}

function sameButPeers(one: NetworkSpec, other: NetworkSpec): boolean {
  return JSON.stringify({ ...one, peers: [] }) === JSON.stringify({ ...other, peers: [] });
}

// Networks as they change: what matches a filter now, then each change, until the caller leaves. One that changes faster than
// its reader reads is told as it is in the end.
import { create } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { NetworkRefSchema, type WatchNetworksResponse } from '#gen/longline/fleet/v1/network_service_pb.js';
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import { desiredStatesTopic, networksTopic } from '../bus/topics.ts';
import type { NetworkConditions, NetworkRecord } from '../store/network.ts';
import type { NetworkFiguresCache } from './network-figures.ts';
import { NetworkViewer } from './network-views.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { nextWithin } from './waiting.ts';

const WATCH_PAGE = 1000;
const PENDING_CHANGES = 4096;

type Change = Pick<WatchNetworksResponse, 'event'>;

/** True if a network meets all conditions. */
function meets({ agentId, mesh, name }: NetworkConditions, network: NetworkRecord): boolean {
  if (agentId !== '' && agentId !== network.agentId) return false;
  if (mesh !== '' && mesh !== network.mesh) return false;
  return name === '' || name === network.name;
}

/** Gives the networks that match, then each change of them or of what their agents say. */
export class NetworkWatch {
  readonly #needs: ServiceDependencies;
  readonly #figures: NetworkFiguresCache;
  readonly #conditions: NetworkConditions;
  readonly #withoutPeers: boolean;
  /** What was told, by agent and name: what is told already is not told again. */
  readonly #known = new Map<string, Map<string, string>>();

  constructor(
    needs: ServiceDependencies,
    figures: NetworkFiguresCache,
    conditions: NetworkConditions,
    withoutPeers: boolean,
  ) {
    this.#needs = needs;
    this.#figures = figures;
    this.#conditions = conditions;
    this.#withoutPeers = withoutPeers;
  }

  async *changes(signal: AbortSignal): AsyncGenerator<Change, void, undefined> {
    const { bus, clock, options } = this.#needs;
    using networks = await bus.subscribe(networksTopic, PENDING_CHANGES);
    // Noted by agent, since one change of what is wanted, or one report, is of all its networks.
    const said = new Set<string>();
    let lost = false;
    let over = new AbortController();
    using _reports = await bus.listen(desiredStatesTopic, (event) => {
      if (event.kind === 'lagged' || said.size >= PENDING_CHANGES) lost = true;
      else if (event.message.stateKind === DesiredStateKind.NETWORK) said.add(event.message.agentId);
      over.abort();
    });
    yield* this.#listing();
    while (!signal.aborted) {
      over = new AbortController();
      if (lost || said.size > 0) over.abort();
      const event = await nextWithin(networks, clock, options.recheckMs, signal, over.signal);
      if (signal.aborted) return;
      if (event?.kind === 'message') said.add(event.message.agentId);
      const all = lost || event?.kind === 'lagged' || said.size === 0;
      const agents = [...said];
      said.clear();
      lost = false;
      if (all) yield* this.#listing();
      else for (const agentId of agents) yield* this.#agent(agentId);
    }
  }

  async *#listing(): AsyncGenerator<Change, void, undefined> {
    const agents = new Set(this.#known.keys());
    for (let pageToken = ''; ; ) {
      const query = { ...this.#conditions, pageSize: WATCH_PAGE, pageToken };
      const page = await this.#needs.store.networks.list(query);
      for (const { agentId } of page.items) agents.add(agentId);
      pageToken = page.nextPageToken;
      if (pageToken === '') break;
    }
    for (const agentId of agents) yield* this.#agent(agentId);
  }

  async *#agent(agentId: string): AsyncGenerator<Change, void, undefined> {
    if (this.#conditions.agentId !== '' && this.#conditions.agentId !== agentId) return;
    const viewer = new NetworkViewer({ ...this.#needs, figures: this.#figures }, this.#withoutPeers);
    const before = this.#known.get(agentId) ?? new Map<string, string>();
    const now = new Map<string, string>();
    for (const record of await this.#needs.store.networks.ofAgent(agentId)) {
      if (!meets(this.#conditions, record)) continue;
      const view = await viewer.view(record);
      if (view === undefined) continue;
      const { applied, error, generation, removing, statusTime } = view;
      const told = [generation, removing, applied, statusTime && timestampMs(statusTime), error?.message].join();
      now.set(record.name, told);
      if (before.get(record.name) !== told) yield { event: { case: 'network', value: view } };
    }
    if (now.size > 0) this.#known.set(agentId, now);
    else this.#known.delete(agentId);
    for (const name of before.keys()) {
      if (now.has(name)) continue;
      yield { event: { case: 'removed', value: create(NetworkRefSchema, { agentId, name }) } };
    }
  }
}

// Networks that match, then each change of them or of what their agents say, until the caller leaves.
import { create } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import {
  type Network,
  NetworkRefSchema,
  type WatchNetworksResponse,
} from '#gen/longline/fleet/v1/network_service_pb.js';
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import { networksTopic } from '../bus/topics.ts';
import type { NetworkConditions, NetworkRecord } from '../store/network.ts';
import { ItemWatch, type ShownItem } from './item-watch.ts';
import type { NetworkFiguresCache } from './network-figures.ts';
import { NetworkViewer } from './network-views.ts';
import type { ServiceDependencies } from './service-dependencies.ts';

const WATCH_PAGE = 1000;

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
    const { agentId: onlyAgent } = this.#conditions;
    const watch = new ItemWatch<Network>(this.#needs, {
      stateKind: DesiredStateKind.NETWORK,
      topic: networksTopic,
      concerns: (agentId) => onlyAgent === '' || onlyAgent === agentId,
      agents: () => this.#agents(),
      ofAgent: async (agentId) => await this.#ofAgent(agentId),
    });
    for await (const event of watch.changes(signal)) {
      if (event.kind === 'there') yield { event: { case: 'network', value: event.view } };
      else yield { event: { case: 'removed', value: create(NetworkRefSchema, event) } };
    }
  }

  async *#agents(): AsyncGenerator<string, void, undefined> {
    for (let pageToken = ''; ; ) {
      const query = { ...this.#conditions, pageSize: WATCH_PAGE, pageToken };
      const page = await this.#needs.store.networks.list(query);
      for (const { agentId } of page.items) yield agentId;
      pageToken = page.nextPageToken;
      if (pageToken === '') return;
    }
  }

  async #ofAgent(agentId: string): Promise<readonly ShownItem<Network>[]> {
    const viewer = new NetworkViewer({ ...this.#needs, figures: this.#figures }, this.#withoutPeers);
    const shown: ShownItem<Network>[] = [];
    for (const record of await this.#needs.store.networks.ofAgent(agentId)) {
      if (!meets(this.#conditions, record)) continue;
      const view = await viewer.view(record);
      if (view === undefined) continue;
      const { applied, error, generation, removing, statusTime } = view;
      const told = [generation, removing, applied, statusTime && timestampMs(statusTime), error?.message].join();
      shown.push({ name: record.name, view, told });
    }
    return shown;
  }
}

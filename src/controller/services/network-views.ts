// Networks as the API shows them: what is wanted of an agent beside what it says.
import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Network, NetworkSchema } from '#gen/longline/fleet/v1/network_service_pb.js';
import { DesiredStateKind, type StateReport } from '#gen/longline/link/v1/link_pb.js';
import {
  NetworkDesiredStateSchema,
  type NetworkSpec,
  NetworkSpecSchema,
  type NetworkStatus,
} from '#gen/longline/v1/network_pb.js';
import type { Clock } from '../../core/clock.ts';
import { standingOf } from '../networks/agent-report.ts';
import { type Refusal, readReport } from '../states/standing.ts';
import type { NetworkRecord } from '../store/network.ts';
import type { Store } from '../store/store.ts';
import type { NetworkFiguresCache } from './network-figures.ts';

const KIND = DesiredStateKind.NETWORK;

/** What is known of the networks of one agent. */
interface AgentNetworks {
  readonly specs: ReadonlyMap<string, NetworkSpec>;
  readonly refusal: Refusal | undefined;
  readonly report: StateReport | undefined;
  readonly reportedAtMs: number;
}

/** What networks are shown with. */
export interface NetworkViewerParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly figures: NetworkFiguresCache;
}

/** Shows networks of one moment, reading what belongs to each agent once. */
export class NetworkViewer {
  readonly #parts: NetworkViewerParts;
  readonly #withoutPeers: boolean;
  #last: { readonly agentId: string; readonly networks: AgentNetworks } | undefined;

  /** `withoutPeers` leaves out peers of spec and status. */
  constructor(parts: NetworkViewerParts, withoutPeers: boolean) {
    this.#parts = parts;
    this.#withoutPeers = withoutPeers;
  }

  /** Undefined for a network that was changed since its record was read, and is gone by now. */
  async view(record: NetworkRecord): Promise<Network | undefined> {
    const { agentId, interface: onInterface, name, removing } = record;
    // Networks are listed by agent: one is enough to be remembered.
    if (this.#last?.agentId !== agentId) this.#last = { agentId, networks: await this.#read(agentId) };
    const { refusal, report, reportedAtMs, specs } = this.#last.networks;
    const spec = removing ? create(NetworkSpecSchema, { name, interface: onInterface }) : specs.get(name);
    if (spec === undefined) return undefined;
    const { applied, error, status } = standingOf(record, report, refusal);
    const latest = this.#latest(agentId, name, status, reportedAtMs);
    return create(NetworkSchema, {
      agentId,
      spec: this.#withoutPeers ? { ...spec, peers: [] } : spec,
      mesh: record.mesh,
      generation: record.generation,
      applied,
      removing,
      updateTime: timestampFromMs(record.updatedAtMs),
      ...(error === undefined ? {} : { error }),
      ...(latest === undefined ? {} : { status: latest.status, statusTime: timestampFromMs(latest.atMs) }),
    });
  }

  async #read(agentId: string): Promise<AgentNetworks> {
    const { store } = this.#parts;
    const wanted = await store.desiredStates.get(agentId, KIND);
    const told = await store.stateReports.get(agentId, KIND);
    const { networks } = wanted === undefined ? { networks: [] } : fromBinary(NetworkDesiredStateSchema, wanted.body);
    return {
      specs: new Map(networks.map((spec) => [spec.name, spec])),
      refusal: wanted?.refusal,
      report: told && readReport(told.report),
      reportedAtMs: told?.storedAtMs ?? 0,
    };
  }

  /** What came last, report or figures; traffic and peers are in figures only. */
  #latest(
    agentId: string,
    name: string,
    reported: NetworkStatus | undefined,
    reportedAtMs: number,
  ): { readonly status: NetworkStatus; readonly atMs: number } | undefined {
    const { clock, figures } = this.#parts;
    const measured = figures.latest(agentId, name, clock.now());
    const shown = (status: NetworkStatus) => (this.#withoutPeers ? { ...status, peers: [] } : status);
    if (measured === undefined) return reported && { status: shown(reported), atMs: reportedAtMs };
    if (reported === undefined || measured.atMs >= reportedAtMs) {
      return { status: shown(measured.status), atMs: measured.atMs };
    }
    const { peers, receivedBytes, sentBytes } = measured.status;
    return { status: shown({ ...reported, peers, receivedBytes, sentBytes }), atMs: reportedAtMs };
  }
}

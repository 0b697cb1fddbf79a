// The methods of NetworkService for networks that are put by themselves, and for reading all of them. What carries a change to
// its agent is woken over the bus, and what agents say comes through the store.
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import {
  type Network,
  type NetworkFilter,
  NetworkSchema,
  type NetworkService,
  type PutNetworkRequest,
} from '#gen/longline/fleet/v1/network_service_pb.js';
import type { NetworkProblem, NetworkSpec } from '#gen/longline/v1/network_pb.js';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import type { NetworkChanges } from '../networks/network-changes.ts';
import { framesOf, specHash } from '../networks/network-frames.ts';
import type { NetworkConditions, NetworkRecord } from '../store/network.ts';
import type { Store } from '../store/store.ts';
import { agentIdViolations, requireAgent } from './agent-lookup.ts';
import type { NetworkFiguresCache } from './network-figures.ts';
import { shapeNetwork } from './network-spec-shape.ts';
import { NetworkViewer } from './network-views.ts';
import { NetworkWatch } from './network-watch.ts';
import { pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { shown } from './shape.ts';

/** Peers in one answer of ListNetworks, over all its networks; a page ends early rather than grow past it. */
const MAX_LISTED_PEERS = 50_000;

const NETWORK_NAME = /^[A-Za-z0-9_.-]{1,63}$/;

/** What the methods are made from. */
export interface NetworkParts extends ServiceDependencies {
  readonly changes: NetworkChanges;
  readonly figures: NetworkFiguresCache;
}

type NetworkMethods = Pick<
  ServiceImpl<typeof NetworkService>,
  'putNetwork' | 'deleteNetwork' | 'getNetwork' | 'listNetworks' | 'watchNetworks'
>;

/** What is wrong with the name of a network or mesh. */
export function networkNameViolations(name: string, field: string): readonly FieldViolation[] {
  if (NETWORK_NAME.test(name)) return [];
  return [{ field, description: `${shown(name)} must be 1 to 63 of letters, digits, "_", "." and "-"` }];
}

/** Throws `already_exists` if another network of the agent has the interface. */
export function checkInterface(
  agentId: string,
  name: string,
  onInterface: string,
  all: readonly NetworkRecord[],
): void {
  const other = all.find((one) => one.interface === onInterface && one.name !== name && !one.removing);
  if (other === undefined) return;
  const what = other.mesh === '' ? `network ${other.name}` : `mesh ${other.mesh}`;
  const message = `interface ${onInterface} of agent ${agentId} is that of ${what}; take another`;
  throw new LonglineError('already_exists', message);
}

interface PutAnswer {
  readonly network: Network;
  readonly changed: boolean;
  readonly warnings: NetworkProblem[];
}

async function putNetwork(parts: NetworkParts, request: PutNetworkRequest): Promise<PutAnswer> {
  const { agentId, validateOnly } = request;
  const violations = [...agentIdViolations(agentId, 'agent_id')];
  const shaped = request.spec && shapeNetwork(request.spec, 'spec');
  if (shaped === undefined) violations.push({ field: 'spec', description: 'is missing' });
  violations.push(...(shaped?.violations ?? []));
  if (violations.length > 0 || shaped === undefined) throw invalid(violations);
  const { store } = parts;
  await requireAgent(store, agentId);
  const { spec, warnings } = shaped;
  const meshes = new Set(await store.meshes.ofAgent(agentId));
  const frames = framesOf(spec);
  const hash = specHash(frames);
  const decide = (networks: readonly NetworkRecord[]) => {
    if (meshes.has(spec.name) || networks.some(({ mesh, name }) => name === spec.name && mesh !== '')) {
      throw new LonglineError(
        'wrong_state',
        `network ${spec.name} of agent ${agentId} is that of a mesh; change the mesh`,
      );
    }
    checkInterface(agentId, spec.name, spec.interface, networks);
    return [{ kind: 'put' as const, mesh: '', interface: spec.interface, frames, hash }];
  };
  if (validateOnly) return await onlyChecked(parts, agentId, spec, warnings, (all) => decide(all)[0]!.hash);
  const changed = await parts.changes.apply(agentId, decide);
  return { network: await currentNetwork(parts, agentId, spec.name), changed, warnings: [...warnings] };
}

async function onlyChecked(
  { clock, store }: NetworkParts,
  agentId: string,
  spec: NetworkSpec,
  warnings: readonly NetworkProblem[],
  check: (networks: readonly NetworkRecord[]) => Uint8Array,
): Promise<PutAnswer> {
  const networks = await store.networks.ofAgent(agentId);
  const hash = check(networks);
  const before = networks.find(({ name, removing }) => name === spec.name && !removing);
  const changed = before === undefined || Buffer.compare(before.specHash, hash) !== 0;
  const generation = before?.generation ?? 0n;
  const updateTime = timestampFromMs(before?.updatedAtMs ?? clock.now());
  return {
    network: create(NetworkSchema, { agentId, spec, generation, updateTime }),
    changed,
    warnings: [...warnings],
  };
}

async function findNetwork(store: Store, agentId: string, name: string): Promise<NetworkRecord> {
  const violations = [...agentIdViolations(agentId, 'agent_id'), ...networkNameViolations(name, 'name')];
  if (violations.length > 0) throw invalid(violations);
  const record = await store.networks.get(agentId, name);
  if (record === undefined) throw missing(agentId, name);
  return record;
}

async function currentNetwork(parts: NetworkParts, agentId: string, name: string): Promise<Network> {
  const view = await new NetworkViewer(parts, false).view(await findNetwork(parts.store, agentId, name));
  if (view === undefined) throw missing(agentId, name);
  return view;
}

function missing(agentId: string, name: string): LonglineError {
  return new LonglineError('not_found', `agent ${agentId} has no network ${name}`);
}

function conditionsOf(filter: NetworkFilter | undefined): NetworkConditions {
  const { agentId = '', mesh = '', name = '' } = filter ?? {};
  const violations = [
    ...(agentId === '' ? [] : agentIdViolations(agentId, 'filter.agent_id')),
    ...(mesh === '' ? [] : networkNameViolations(mesh, 'filter.mesh')),
    ...(name === '' ? [] : networkNameViolations(name, 'filter.name')),
  ];
  if (violations.length > 0) throw invalid(violations);
  return { agentId, mesh, name };
}

/** Networks by themselves, and reading. */
export function networkMethods(parts: NetworkParts): NetworkMethods {
  const { changes, figures, store } = parts;
  return {
    putNetwork: async (request) => await putNetwork(parts, request),

    async deleteNetwork({ agentId, name }) {
      const record = await findNetwork(store, agentId, name);
      if (record.mesh !== '') {
        const message = `network ${name} of agent ${agentId} is that of a mesh; let the agent leave mesh ${record.mesh}`;
        throw new LonglineError('wrong_state', message);
      }
      await changes.apply(agentId, () => [{ kind: 'remove', name }]);
      return { network: await currentNetwork(parts, agentId, name) };
    },

    async getNetwork({ agentId, name }) {
      return { network: await currentNetwork(parts, agentId, name) };
    },

    async listNetworks(request) {
      const page = { ...conditionsOf(request.filter), ...pageQuery(request) };
      const found = await store.networks.list(page);
      const viewer = new NetworkViewer(parts, request.withoutPeers);
      const networks: Network[] = [];
      let peers = 0;
      for (const [place, record] of found.items.entries()) {
        const view = await viewer.view(record);
        peers += (view?.spec?.peers.length ?? 0) + (view?.status?.peers.length ?? 0);
        if (place > 0 && peers > MAX_LISTED_PEERS) {
          const { nextPageToken } = await store.networks.list({ ...page, pageSize: place });
          return { networks, nextPageToken };
        }
        if (view !== undefined) networks.push(view);
      }
      return { networks, nextPageToken: found.nextPageToken };
    },

    async *watchNetworks({ filter, withoutPeers }, { signal }) {
      yield* new NetworkWatch(parts, figures, conditionsOf(filter), withoutPeers).changes(signal);
    },
  };
}

// Changes of the networks of one agent: what is wanted of it, and what is noted of each, as one step. Fails as ItemChanges does.
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../../core/clock.ts';
import type { Tracer } from '../../core/tracer.ts';
import type { Bus } from '../bus/bus.ts';
import { networksTopic } from '../bus/topics.ts';
import { ItemChanges, type ItemEdit, type NextBody } from '../states/item-changes.ts';
import type { NetworkCommit, NetworkRecord } from '../store/network.ts';
import type { Store } from '../store/store.ts';
import { type NetworkFrames, parseState, stateBytes, stateDelta } from './network-frames.ts';

/** A network that is to be so, by itself or as part of a mesh. */
interface NetworkPut {
  readonly kind: 'put';
  readonly mesh: string;
  readonly interface: string;
  readonly frames: NetworkFrames;
  /** Of the frames' spec. */
  readonly hash: Uint8Array;
}

/** What is to become of one network. */
export type NetworkEdit = ItemEdit<NetworkPut>;

/** What it is made from. */
export interface NetworkChangesParts {
  readonly store: Pick<Store, 'desiredStates' | 'networks'>;
  readonly bus: Bus;
  readonly clock: Clock;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
}

/** The way to change networks. Stateless: every replica may have one. */
export class NetworkChanges extends ItemChanges<NetworkRecord, NetworkPut> {
  constructor({ store, bus, clock, tracer }: NetworkChangesParts) {
    super(
      { desiredStates: store.desiredStates, bus, clock, tracer },
      {
        stateKind: DesiredStateKind.NETWORK,
        topic: networksTopic,
        ownerOf: ({ mesh }) => mesh,
        nameOf: ({ frames }) => frames.name,
        ofAgent: async (agentId) => await store.networks.ofAgent(agentId),
        next,
        commit: async (state, edits, before) =>
          await store.networks.commit({ state, networks: edits.map((edit) => recordOf(edit, before)) }),
      },
    );
  }
}

function next(stored: Uint8Array | undefined, edits: readonly NetworkEdit[]): NextBody {
  const current = stored === undefined ? [] : parseState(stored);
  const networks = new Map(current.map((network) => [network.name, network]));
  for (const edit of edits) {
    if (edit.kind === 'put') networks.set(edit.frames.name, edit.frames);
    else networks.delete(edit.name);
  }
  const wanted = [...networks.values()];
  return { body: stateBytes(wanted), undo: stored && stateDelta(wanted, current) };
}

function recordOf(edit: NetworkEdit, before: readonly NetworkRecord[]): NetworkCommit['networks'][number] {
  if (edit.kind === 'put') {
    const { frames, mesh } = edit;
    return { name: frames.name, mesh, interface: edit.interface, specHash: edit.hash, removing: false };
  }
  return { ...before.find(({ name }) => name === edit.name)!, removing: true };
}

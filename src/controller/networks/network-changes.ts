// Changes of the networks of one agent: what is wanted of it, and what is noted of each, as one step. Whoever changes them says
// what is to be there; that somebody else changed another network of the same agent meanwhile is settled here. Fails as
// `not_found` for an unknown agent, as `limit` for more than an agent can be sent, and with whatever the change itself throws.
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Bus } from '../bus/bus.ts';
import { networksTopic } from '../bus/topics.ts';
import { announceState, MAX_ATTEMPTS, nextGeneration, tooManyChanges } from '../states/state-update.ts';
import type { NetworkCommit, NetworkRecord } from '../store/network.ts';
import type { Store } from '../store/store.ts';
import { type NetworkFrames, parseState, stateBytes, stateDelta } from './network-frames.ts';

const KIND = DesiredStateKind.NETWORK;

/** What is to become of one network. */
export type NetworkEdit =
  /** It is to be so, by itself or as part of a mesh. */
  | {
      readonly kind: 'put';
      readonly mesh: string;
      readonly interface: string;
      readonly frames: NetworkFrames /** Of the frames' spec. */;
      readonly hash: Uint8Array;
    }
  /** It is not wanted any more. */
  | { readonly kind: 'remove'; readonly name: string };

/** What it is made from. */
export interface NetworkChangesParts {
  readonly store: Pick<Store, 'desiredStates' | 'networks'>;
  readonly bus: Bus;
  readonly clock: Clock;
}

/** The way to change networks. Stateless: every replica may have one. */
export class NetworkChanges {
  readonly #parts: NetworkChangesParts;

  constructor(parts: NetworkChangesParts) {
    this.#parts = parts;
  }

  /**
   * Makes edits take effect; true if anything changed. `decide` gets what the agent has, those included that are being removed,
   * and is called anew when somebody else was quicker.
   */
  async apply(
    agentId: string,
    decide: (networks: readonly NetworkRecord[]) => readonly NetworkEdit[],
  ): Promise<boolean> {
    const { desiredStates, networks } = this.#parts.store;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      // First, so that what is read after it is at least as new: else the generation that is expected is another one by then.
      const head = (await desiredStates.heads(agentId)).find(({ kind }) => kind === KIND);
      const before = await networks.ofAgent(agentId);
      const edits = decide(before).filter((edit) => changes(edit, before));
      if (edits.length === 0) return false;
      const commit = await this.#commitOf(agentId, head?.generation ?? 0n, edits, before);
      const outcome = await networks.commit(commit);
      if (outcome.kind === 'missing') throw new LonglineError('not_found', `no agent has id ${agentId}`);
      if (outcome.kind === 'moved') continue;
      this.#publish(agentId, edits);
      return true;
    }
    throw tooManyChanges(agentId);
  }

  async #commitOf(
    agentId: string,
    expected: bigint,
    edits: readonly NetworkEdit[],
    before: readonly NetworkRecord[],
  ): Promise<NetworkCommit> {
    const stored = await this.#parts.store.desiredStates.get(agentId, KIND);
    const current = stored === undefined ? [] : parseState(stored.body);
    const next = new Map(current.map((network) => [network.name, network]));
    for (const edit of edits) {
      if (edit.kind === 'put') next.set(edit.frames.name, edit.frames);
      else next.delete(edit.name);
    }
    const wanted = [...next.values()];
    const state = nextGeneration({
      agentId,
      kind: KIND,
      expected,
      body: stateBytes(wanted),
      undo: stored && stateDelta(wanted, current),
      nowMs: this.#parts.clock.now(),
    });
    return { state, networks: edits.map((edit) => recordOf(edit, before)) };
  }

  #publish(agentId: string, edits: readonly NetworkEdit[]): void {
    const { bus } = this.#parts;
    announceState(bus, agentId, KIND);
    for (const edit of edits) {
      bus.publish(networksTopic, { agentId, name: edit.kind === 'put' ? edit.frames.name : edit.name });
    }
  }
}

function changes(edit: NetworkEdit, before: readonly NetworkRecord[]): boolean {
  const name = edit.kind === 'put' ? edit.frames.name : edit.name;
  const record = before.find((one) => one.name === name);
  if (edit.kind === 'remove') return record !== undefined && !record.removing;
  if (record === undefined || record.removing || record.mesh !== edit.mesh) return true;
  return Buffer.compare(record.specHash, edit.hash) !== 0;
}

function recordOf(edit: NetworkEdit, before: readonly NetworkRecord[]): NetworkCommit['networks'][number] {
  if (edit.kind === 'put') {
    const { frames, mesh } = edit;
    return { name: frames.name, mesh, interface: edit.interface, specHash: edit.hash, removing: false };
  }
  return { ...before.find(({ name }) => name === edit.name)!, removing: true };
}

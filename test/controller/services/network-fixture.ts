// Agents that bring networks about in no time, for tests of what asks them: they take states from the store and report to it.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { DesiredStateKind, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import {
  NetworkDesiredStateSchema,
  type NetworkSpec,
  NetworkState,
  type NetworkStatusSchema,
} from '#gen/longline/v1/network_pb.js';
import type { Bus } from '../../../src/controller/bus/bus.ts';
import { desiredStatesTopic } from '../../../src/controller/bus/topics.ts';
import type { Store } from '../../../src/controller/store/store.ts';

const KIND = DesiredStateKind.NETWORK;

/** A key that nobody has the private half of. */
export function keyNamed(text: string): string {
  return Buffer.alloc(32, `${text} `).toString('base64');
}

/** An agent that does what is wanted of it whenever it is told to. */
export class NetworkAgent {
  readonly id: string;
  readonly #store: Store;
  readonly #bus: Bus;
  /** What it has: of the last state that it applied. */
  networks: readonly NetworkSpec[] = [];
  /** Part of its keys' names; another one after it lost its data. */
  life = '';

  constructor(id: string, store: Store, bus: Bus) {
    this.id = id;
    this.#store = store;
    this.#bus = bus;
  }

  /** Its key of an epoch. */
  key(epoch: number): string {
    return keyNamed(`${this.id}${this.life}/${epoch}`);
  }

  /** True if something is wanted that it hasn't applied. */
  async behind(): Promise<boolean> {
    const [head] = await this.#store.desiredStates.heads(this.id);
    const told = await this.#store.stateReports.get(this.id, KIND);
    return head !== undefined && head.generation !== told?.generation;
  }

  /** Applies what is wanted now; `tell` says so. */
  async apply(patch: MessageInitShape<typeof NetworkStatusSchema> = {}): Promise<void> {
    const wanted = await this.#store.desiredStates.get(this.id, KIND);
    if (wanted === undefined) return;
    this.networks = fromBinary(NetworkDesiredStateSchema, wanted.body).networks;
    await this.tell(wanted.generation, patch);
  }

  /** Reports a generation as applied, with what it has. */
  async tell(generation: bigint, patch: MessageInitShape<typeof NetworkStatusSchema> = {}): Promise<void> {
    const networks = this.networks.map(({ interface: onInterface, keyEpoch, name, nextKeyEpoch }) => {
      const epochs = [...new Set([keyEpoch, nextKeyEpoch])];
      const keys = epochs.map((epoch) => ({ epoch, publicKey: this.key(epoch) }));
      return { name, interface: onInterface, state: NetworkState.UP, keys, keyEpoch, ...patch };
    });
    const report = create(StateReportSchema, {
      kind: KIND,
      generation,
      detail: { case: 'network', value: { networks } },
    });
    const bytes = toBinary(StateReportSchema, report);
    await this.#store.stateReports.put({
      agentId: this.id,
      kind: KIND,
      generation,
      report: bytes,
      storedAtMs: Date.now(),
    });
    this.#bus.publish(desiredStatesTopic, { agentId: this.id, stateKind: KIND });
  }
}

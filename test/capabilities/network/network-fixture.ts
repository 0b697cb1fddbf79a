// What tests of the network capability share: capabilities over a host and a disk in memory, one after the other as processes would
// be, and specs.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { NetworkCapability } from '../../../src/capabilities/network/capability.ts';
import { DEFAULT_NETWORK_CONFIG, type NetworkConfig } from '../../../src/capabilities/network/config.ts';
import type { NetworkView } from '../../../src/capabilities/network/status.ts';
import {
  encodeDesiredState,
  type NetworkSpecInit,
  type NetworkSpecMessage,
  specMessage,
} from '../../../src/capabilities/network/wire.ts';
import type { Availability, HostEvent, StateStore } from '../../../src/core/capability.ts';
import { type Clock, systemClock } from '../../../src/core/clock.ts';
import type { StateObservation } from '../../../src/core/desired-state.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { MemoryState } from '../jobs/jobs-fixture.ts';
import { HostModel, Killed } from './host-model.ts';

/** A key made of one byte. */
export const testKey = (n: number) => Buffer.alloc(32, n).toString('base64');

/** A spec in parts. */
export type SpecParts = Exclude<NetworkSpecInit, NetworkSpecMessage>;

/** A spec with one address and these peers. */
export function testSpec(name: string, peers: readonly number[], more: SpecParts = {}): SpecParts {
  return {
    name,
    interface: `if-${name}`.slice(0, 15),
    addresses: ['10.9.0.1/16'],
    peers: peers.map((n) => ({
      publicKey: testKey(n),
      name: `peer ${n}`,
      endpoint: `192.0.2.${n}:51820`,
      allowedIps: [`10.9.${n}.0/24`],
    })),
    ...more,
  };
}

/** A clock whose wall time is moved by the test. */
export class MovedClock implements Clock {
  offsetMs = 0;
  now = () => Date.now() + this.offsetMs;
  monotonic = () => systemClock.monotonic() + this.offsetMs;
  sleep = systemClock.sleep;
}

/** Capabilities over one host and one disk. */
export class NetworkWorld implements AsyncDisposable {
  readonly host = new HostModel();
  readonly state = new MemoryState();
  readonly events: HostEvent[] = [];
  readonly observations: StateObservation[] = [];
  readonly telemetry: Uint8Array[] = [];
  readonly clock = new MovedClock();
  readonly environment = new Map<string, string>();
  readonly #config: NetworkConfig;
  readonly #opened: NetworkCapability[] = [];

  constructor(config: Partial<NetworkConfig> = {}) {
    this.#config = { ...DEFAULT_NETWORK_CONFIG, ...config };
  }

  /** A capability that goes on where the last one was. */
  async start(): Promise<NetworkCapability> {
    const { availability, capability } = await this.open();
    if (availability.available) await capability.adopt();
    return capability;
  }

  /** One that has not begun. */
  async open(): Promise<{ readonly availability: Availability; readonly capability: NetworkCapability }> {
    const capability = new NetworkCapability({
      systemOn: () => this.host,
      environmentKey: (network) => this.environment.get(network),
      reports: { measured: (figures) => this.telemetry.push(figures) },
      config: this.#config,
    });
    this.#opened.push(capability);
    capability.observeState((observation) => this.observations.push(observation));
    const availability = await capability.open({
      log: silentLogger,
      clock: this.clock,
      state: this.#killable(),
      signal: new AbortController().signal,
      emit: (event) => this.events.push(event),
    });
    return { availability, capability };
  }

  /** Ends all capabilities; their networks stay. */
  async letGo(): Promise<void> {
    for (const capability of this.#opened.splice(0)) await capability[Symbol.asyncDispose]();
    this.host.killAfter = Number.POSITIVE_INFINITY;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.letGo();
  }

  /** A disk that takes nothing more once the process is dead. */
  #killable(): StateStore {
    const { host, state } = this;
    return {
      get: async (key) => {
        if (host.killAfter < 0) throw new Killed('killed');
        return await state.get(key);
      },
      list: async (prefix) => await state.list(prefix),
      put: async (key, value) => {
        host.effect();
        await state.put(key, value);
      },
      delete: async (key) => {
        host.effect();
        await state.delete(key);
      },
    };
  }
}

/** Gives one generation to a capability. */
export async function applyFull(
  capability: NetworkCapability,
  generation: number,
  specs: readonly NetworkSpecInit[],
): Promise<void> {
  const body = encodeDesiredState({ networks: specs.map(specMessage) });
  await capability.applyState({ generation: BigInt(generation), baseGeneration: 0n, body });
}

/** Resolves with what `found` gives once it isn't undefined. */
export async function until<T>(what: string, found: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const end = performance.now() + 20_000;
  for (;;) {
    const value = await found();
    if (value !== undefined) return value;
    if (performance.now() > end) assert.fail(`waited in vain until ${what}`);
    await pause(5);
  }
}

/** Resolves once a network is in a state. */
export async function untilState(
  capability: NetworkCapability,
  name: string,
  state: NetworkView['state'],
): Promise<NetworkView> {
  return await until(`${name} is ${state}`, async () => {
    const view = (await capability.look()).find((one) => one.name === name);
    return view?.state === state ? view : undefined;
  });
}

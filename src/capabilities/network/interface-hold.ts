// A network's hold on its interface: claims it among the networks of this host, notes durably whose it is before it is there, opens it
// and hears when it is lost. Letting go changes nothing on the host.
import { describeError, LonglineError } from '../../core/errors.ts';
import type { BackendChoice, NetworkSpec } from '../../core/network/network-spec.ts';
import type { KeptRecord } from './bring-up.ts';
import type { NetworkOrder } from './order.ts';
import type { OpenInterface } from './ports.ts';
import type { NetworkRecord } from './record.ts';
import type { NetworkServices } from './services.ts';

/** One per network. */
export class InterfaceHold implements KeptRecord {
  readonly #network: string;
  readonly #services: NetworkServices;
  readonly #lost: (reason: string) => void;
  #record: NetworkRecord | undefined;
  #opened: OpenInterface | undefined;
  #watching: AbortController | undefined;

  /** @param lost is called when the interface isn't whole any more. */
  constructor(
    network: string,
    record: NetworkRecord | undefined,
    services: NetworkServices,
    lost: (reason: string) => void,
  ) {
    this.#network = network;
    this.#record = record;
    this.#services = services;
    this.#lost = lost;
  }

  /** What is known of it on disk; undefined if there is nothing of it. */
  get record(): NetworkRecord | undefined {
    return this.#record;
  }

  get current(): NetworkRecord {
    if (this.#record !== undefined) return this.#record;
    throw new LonglineError('wrong_state', `network ${this.#network} has no interface yet`);
  }

  /** Open and not let go of. */
  get opened(): OpenInterface | undefined {
    return this.#opened;
  }

  async keep(change: Partial<NetworkRecord>): Promise<void> {
    const next = { ...this.current, ...change };
    if (JSON.stringify(next) === JSON.stringify(this.#record)) return;
    await this.#services.records.put(next);
    this.#record = next;
  }

  /** True if what is there can't become what is wanted. */
  isElsewhere({ spec }: NetworkOrder): boolean {
    const record = this.#record;
    if (record === undefined) return false;
    const backend = this.#backendOf(spec);
    const { backend: before = backend } = record;
    return record.interface !== spec.interface || (backend !== 'auto' && before !== backend);
  }

  /** Opens it, or sees that it is whole. */
  async open({ source, spec }: NetworkOrder, signal: AbortSignal): Promise<OpenInterface> {
    const { system, interfaces, records } = this.#services;
    const holder = interfaces.get(spec.interface) ?? this.#network;
    if (holder !== this.#network) {
      throw new LonglineError('unavailable', `"${spec.interface}" is still being taken from network ${holder}`);
    }
    interfaces.set(spec.interface, this.#network);
    if (this.#record === undefined) {
      // Before there is anything: whoever comes after a kill has to know what to look for.
      const record = { name: this.#network, source, interface: spec.interface, ...NOTHING_DONE };
      await records.put(record);
      this.#record = record;
    }
    const { adoptInterface: adoptForeign, fwmark, listenPort, mtu } = spec;
    const request = { name: spec.interface, backend: this.#backendOf(spec), mtu, fwmark, listenPort, adoptForeign };
    const opened = await system.interfaces.open(request, signal);
    const { foreign: isForeign, kind: backend, realName } = opened;
    await this.keep({ source, realName, backend, isForeign });
    this.#opened = opened;
    return opened;
  }

  /** Listens for its loss, from a state in which it is whole. */
  watch(): void {
    const opened = this.#opened;
    this.#watching?.abort();
    if (opened === undefined) return;
    const watching = new AbortController();
    this.#watching = watching;
    opened.lost(watching.signal).then(
      (reason) => {
        if (!watching.signal.aborted) this.#lost(`${opened.realName}: ${reason}`);
      },
      (error: unknown) => {
        if (watching.signal.aborted) return;
        const { log } = this.#services;
        log.warn('an interface is not watched', { network: this.#network, err: describeError(error) });
      },
    );
  }

  letGo(): void {
    this.#watching?.abort();
    this.#opened = undefined;
  }

  /** Nothing of it is there any more. */
  async forget(): Promise<void> {
    const { records, interfaces } = this.#services;
    await records.delete(this.#network);
    for (const [name, holder] of interfaces) if (holder === this.#network) interfaces.delete(name);
    this.#record = undefined;
  }

  #backendOf({ backend }: NetworkSpec): BackendChoice {
    return backend === 'auto' ? this.#services.config.backend : backend;
  }
}

const NOTHING_DONE = {
  realName: undefined,
  backend: undefined,
  isForeign: false,
  forwards: false,
  resolves: false,
} as const;

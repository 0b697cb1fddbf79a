// What is known of one network from looking at it: its device as it was last found, who fares how, and since when it is as it is.
// Tells of changes as events, and has names asked for again whose peers don't answer.
import type { Clock } from '../../core/clock.ts';
import type { HostEvents } from '../../core/host-events.ts';
import type { FoundDevice } from './device.ts';
import type { PeerHealth } from './health.ts';
import type { Names } from './names.ts';
import type { NetworkOrder } from './order.ts';
import { type HealthChange, isTrouble, PeerWatch } from './peer-watch.ts';

/** One per network. */
export class Observation {
  readonly #network: string;
  readonly #events: HostEvents;
  readonly #names: Names;
  readonly #clock: Clock;
  readonly #watch = new PeerWatch();
  #found: FoundDevice | undefined;

  constructor(network: string, events: HostEvents, names: Names, clock: Clock) {
    this.#clock = clock;
    this.#network = network;
    this.#events = events;
    this.#names = names;
  }

  /** As it was last found; undefined if it isn't there. */
  get found(): FoundDevice | undefined {
    return this.#found;
  }

  /** Counted since this process looks at it. */
  get counters(): { readonly handshakes: number; readonly recoveries: number } {
    const { handshakes, recoveries } = this.#watch;
    return { handshakes, recoveries };
  }

  /** As of the last look. */
  readonly healthOf = (publicKey: string): PeerHealth => this.#watch.health(publicKey);

  /** Takes a look over. */
  take(found: FoundDevice, { spec }: NetworkOrder): void {
    this.#found = found;
    const changed = this.#watch.look(found, this.#clock.now(), this.#clock.monotonic());
    const changes = new Map(changed.map((change) => [change.publicKey, change]));
    for (const { endpoint, name, publicKey } of spec.peers) {
      const health = this.#watch.health(publicKey);
      if (endpoint !== undefined && isTrouble(health)) this.#names.suspect(endpoint);
      if (endpoint !== undefined && health === 'active') this.#names.trust(endpoint);
      const change = changes.get(publicKey);
      if (change !== undefined) this.#tell(change, name, found.peers.get(publicKey)?.endpoint);
    }
  }

  /** It isn't there any more. */
  forget(): void {
    this.#found = undefined;
  }

  #tell({ before, now, publicKey }: HealthChange, name: string, endpoint: string | undefined): void {
    const recovered = now === 'active' && isTrouble(before);
    if (!isTrouble(now) && !recovered) return;
    const peer = name === '' ? publicKey : `${name} (${publicKey})`;
    const where = endpoint === undefined ? '' : ` at ${endpoint}`;
    const what = recovered ? 'answers again' : now === 'suspect' ? 'is overdue with its handshake' : "can't be reached";
    const type = recovered ? 'peer_recovered' : `peer_${now}`;
    this.#events.tell(type, this.#network, `network ${this.#network}: peer ${peer}${where} ${what}`, {
      public_key: publicKey,
    });
  }
}

// What WireGuard does with what is written to it, without WireGuard: the rules that plans rely on.
import type { FoundDevice, FoundPeer, WantedDevice } from '../../../src/capabilities/network/device.ts';
import type { DeviceChange, PeerChange } from '../../../src/capabilities/network/plan.ts';

/** What is found of a peer that nothing has passed. */
export const UNUSED = { lastHandshakeMs: undefined, receivedBytes: 0, sentBytes: 0 } as const;

/** A wanted interface as it is found once it is so. */
export function asFound({ privateKey, peers, ...own }: WantedDevice): FoundDevice {
  const found = [...peers].map(([key, peer]): [string, FoundPeer] => [key, { ...peer, ...UNUSED }]);
  return { ...own, publicKey: privateKey.publicKey(), peers: new Map(found) };
}

/** An interface in memory. `onWrite` sees it after every single step, as a packet might. */
export class DeviceModel {
  #state: FoundDevice;
  readonly #onWrite: (state: FoundDevice) => void;

  constructor(state: FoundDevice, onWrite: (state: FoundDevice) => void = () => undefined) {
    this.#state = state;
    this.#onWrite = onWrite;
  }

  get state(): FoundDevice {
    return this.#state;
  }

  write({ peers, ...own }: DeviceChange): void {
    const { privateKey, ...plain } = own;
    this.#state = { ...this.#state, ...plain };
    if (privateKey !== undefined) this.#state = { ...this.#state, publicKey: privateKey.publicKey() };
    for (const change of peers) {
      if (change.kind === 'remove')
        this.#replace(new Map([...this.#state.peers].filter(([key]) => key !== change.publicKey)));
      else this.#writePeer(change);
    }
  }

  /** Changes what is found of a peer, as its packets would. */
  setPeer(publicKey: string, change: Partial<FoundPeer>): void {
    const peer = this.#state.peers.get(publicKey);
    if (peer !== undefined) this.#replace(new Map([...this.#state.peers, [publicKey, { ...peer, ...change }]]));
  }

  #writePeer({ kind, publicKey, fields }: Exclude<PeerChange, { kind: 'remove' }>): void {
    const before = this.#state.peers.get(publicKey);
    // An update of an absent peer is nothing; so is the own key as a peer.
    if (before === undefined && kind === 'update') return;
    if (publicKey === this.#state.publicKey) return;
    const bare: FoundPeer = {
      publicKey,
      presharedKey: undefined,
      endpoint: undefined,
      keepaliveSecs: 0,
      prefixes: new Set(),
      ...UNUSED,
    };
    const peer = { ...(before ?? bare) };
    if (fields.presharedKey !== undefined) peer.presharedKey = fields.presharedKey ?? undefined;
    if (fields.endpoint !== undefined) peer.endpoint = fields.endpoint;
    if (fields.keepaliveSecs !== undefined) peer.keepaliveSecs = fields.keepaliveSecs;
    this.#replace(new Map([...this.#state.peers, [publicKey, peer]]));
    for (const prefix of fields.addPrefixes ?? []) this.#move(prefix, publicKey);
  }

  #move(prefix: string, to: string): void {
    const peers = [...this.#state.peers].map(([key, peer]): [string, FoundPeer] => {
      const others = [...peer.prefixes].filter((one) => one !== prefix);
      return [key, { ...peer, prefixes: new Set(key === to ? [...others, prefix] : others) }];
    });
    this.#replace(new Map(peers));
  }

  #replace(peers: ReadonlyMap<string, FoundPeer>): void {
    this.#state = { ...this.#state, peers };
    this.#onWrite(this.#state);
  }
}

// What WireGuard does with what is written to it, without WireGuard: the rules that plans rely on.
import type { DeviceState, PeerState } from '../../../src/capabilities/network/device.ts';
import type { DeviceChange, PeerChange } from '../../../src/capabilities/network/plan.ts';

/** An interface in memory. `onWrite` sees it after every single step, as a packet might. */
export class DeviceModel {
  #state: DeviceState;
  readonly #onWrite: (state: DeviceState) => void;

  constructor(state: DeviceState, onWrite: (state: DeviceState) => void = () => undefined) {
    this.#state = state;
    this.#onWrite = onWrite;
  }

  get state(): DeviceState {
    return this.#state;
  }

  write({ peers, ...own }: DeviceChange): void {
    this.#state = { ...this.#state, ...own };
    for (const change of peers) {
      if (change.kind === 'remove')
        this.#replace(new Map([...this.#state.peers].filter(([key]) => key !== change.publicKey)));
      else this.#writePeer(change);
    }
  }

  #writePeer({ kind, publicKey, fields }: Exclude<PeerChange, { kind: 'remove' }>): void {
    const before = this.#state.peers.get(publicKey);
    // An update of an absent peer is nothing; so is the own key as a peer.
    if (before === undefined && kind === 'update') return;
    if (publicKey === this.#state.privateKey?.publicKey()) return;
    const bare: PeerState = {
      publicKey,
      presharedKey: undefined,
      endpoint: undefined,
      keepaliveSecs: 0,
      prefixes: new Set(),
    };
    const peer = { ...(before ?? bare) };
    if (fields.presharedKey !== undefined) peer.presharedKey = fields.presharedKey ?? undefined;
    if (fields.endpoint !== undefined) peer.endpoint = fields.endpoint;
    if (fields.keepaliveSecs !== undefined) peer.keepaliveSecs = fields.keepaliveSecs;
    this.#replace(new Map([...this.#state.peers, [publicKey, peer]]));
    for (const prefix of fields.addPrefixes ?? []) this.#move(prefix, publicKey);
  }

  #move(prefix: string, to: string): void {
    const peers = [...this.#state.peers].map(([key, peer]): [string, PeerState] => {
      const others = [...peer.prefixes].filter((one) => one !== prefix);
      return [key, { ...peer, prefixes: new Set(key === to ? [...others, prefix] : others) }];
    });
    this.#replace(new Map(peers));
  }

  #replace(peers: ReadonlyMap<string, PeerState>): void {
    this.#state = { ...this.#state, peers };
    this.#onWrite(this.#state);
  }
}

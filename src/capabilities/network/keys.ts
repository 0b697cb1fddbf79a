// The host's own keys of a network, by epoch. That of epoch 0 may be somebody else's to keep: in a file that the spec names, or in
// the environment. All others the agent makes and forgets.
import type { NetworkSpec } from '../../core/network/network-spec.ts';
import type { SecretKey } from '../../core/wireguard-keys.ts';
import type { KeyStore, OwnKeys } from './ports.ts';
import type { HostKey } from './status.ts';

/** Keys that are there for a network. */
export interface KeysInUse {
  readonly privateKey: SecretKey;
  /** The one in use, and one that is ready. */
  readonly keys: readonly HostKey[];
}

/** Source of a key of epoch 0 that is in the environment, as KeyStore.read takes it; undefined if there is none. */
export type EnvironmentKey = (network: string) => string | undefined;

/** The keys of all networks of a host. */
export class HostKeys {
  readonly #store: KeyStore;
  readonly #own: OwnKeys;
  readonly #environmentKey: EnvironmentKey;

  constructor(store: KeyStore, own: OwnKeys, environmentKey: EnvironmentKey) {
    this.#store = store;
    this.#own = own;
    this.#environmentKey = environmentKey;
  }

  /** The keys that a spec asks for, made where they are the agent's and missing. */
  async use(spec: NetworkSpec): Promise<KeysInUse> {
    const privateKey = await this.#key(spec, spec.keyEpoch);
    const keys = [{ epoch: spec.keyEpoch, publicKey: privateKey.publicKey() }];
    if (spec.nextKeyEpoch !== spec.keyEpoch) {
      const next = await this.#key(spec, spec.nextKeyEpoch);
      keys.push({ epoch: spec.nextKeyEpoch, publicKey: next.publicKey() });
    }
    return { privateKey, keys };
  }

  /** Forgets keys of epochs that a spec no longer names; to be called once its own is in use. */
  async forgetOthers({ name, keyEpoch, nextKeyEpoch }: NetworkSpec): Promise<void> {
    for (const epoch of await this.#own.epochs(name)) {
      if (epoch !== keyEpoch && epoch !== nextKeyEpoch) await this.#own.forget(name, epoch);
    }
  }

  /** Forgets all keys of a network that the agent made. */
  async forgetAll(network: string): Promise<void> {
    for (const epoch of await this.#own.epochs(network)) await this.#own.forget(network, epoch);
  }

  async #key({ name, privateKeyPath }: NetworkSpec, epoch: number): Promise<SecretKey> {
    const source = epoch === 0 ? (this.#environmentKey(name) ?? privateKeyPath) : undefined;
    return source === undefined ? await this.#own.key(name, epoch) : await this.#store.read(source);
  }
}

// Keys that the agent makes and keeps: one file for each network and epoch, in a folder that only the agent can read. A file is
// there whole or not at all, since whoever was told a public key must find the private one again.
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { KeyStore, OwnKeys } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import type { SecretKey } from '../../core/wireguard-keys.ts';

/** The keys in one folder, which is made with the first of them. */
export class OwnKeyFolder implements OwnKeys {
  readonly #folder: string;
  readonly #store: KeyStore;

  constructor(folder: string, store: KeyStore) {
    this.#folder = folder;
    this.#store = store;
  }

  async key(network: string, epoch: number): Promise<SecretKey> {
    const path = this.#path(network, epoch);
    try {
      return await this.#store.read(path);
    } catch (error) {
      if (!(error instanceof LonglineError && error.reason === 'not_found')) throw error;
    }
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    return await this.#store.generate(path);
  }

  async epochs(network: string): Promise<readonly number[]> {
    const names = await readdir(this.#folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw new LonglineError('unavailable', `keys in ${this.#folder} can't be listed`, { cause: error });
    });
    return names.flatMap((name) => {
      const [, whose, epoch] = /^(.+)\.(\d+)\.key$/.exec(name) ?? [];
      return whose === network ? [Number(epoch)] : [];
    });
  }

  async forget(network: string, epoch: number): Promise<void> {
    await rm(this.#path(network, epoch), { force: true });
  }

  /** Names of networks have no "/", and none begins with a dot that would lead out of the folder. */
  #path(network: string, epoch: number): string {
    return join(this.#folder, `${network}.${epoch}.key`);
  }
}

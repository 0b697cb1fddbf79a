// Public keys of artifacts from Vault: the public halves of transit keys, each version by itself, and keys kept in a KV engine. What
// was read is kept on disk, so that a host whose Vault is away goes on with the keys it had; without any it has none, and says so.
// A key that Vault says is gone is gone. It fails as `unavailable` only while there is nothing to go by.
import type { ArtifactKey, ArtifactKeys } from '../../capabilities/programs/ports.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { keysVersion } from '../../core/programs/artifact-key.ts';
import { readKeyCopy, writeKeyCopy } from './key-copy.ts';
import { readKvKeys, readTransitKeys } from './key-reading.ts';
import type { VaultClient } from './vault-client.ts';

/** Which keys. */
export interface VaultKeyPlaces {
  readonly transit: { readonly mount: string; readonly names: readonly string[] };
  readonly kv: readonly { readonly mount: string; readonly path: string; readonly version: 1 | 2 }[];
}

/** A place on disk for what was read. */
export interface KeyCopyFile {
  /** Undefined if there is none. Throws if it can't be trusted. */
  load(): Promise<string | undefined>;
  /** Replaces it atomically, readable by its owner alone. */
  save(text: string): Promise<void>;
}

/** What it is made from. */
export interface VaultKeysOptions {
  readonly client: Pick<VaultClient, 'read'>;
  readonly places: VaultKeyPlaces;
  /** What tells this Vault from others: a copy of another one is not used. */
  readonly identity: string;
  readonly copy: KeyCopyFile;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What was read a moment ago is not read again. */
const FRESH_MS = 10_000;
/** After a failure with a copy at hand, Vault is left alone for so long. */
const RETRY_MS = 30_000;

/** For all of them together. */
const READING_MS = 30_000;

/** Keys of one Vault. Several calls at once share one reading. Its owner disposes it, which ends one that is under way. */
export class VaultKeys implements ArtifactKeys, Disposable {
  readonly #options: VaultKeysOptions;
  #held: readonly ArtifactKey[] | undefined;
  /** Monotonic milliseconds before which Vault is not asked. */
  #restUntil = Number.NEGATIVE_INFINITY;
  #isCopied = false;
  readonly #stop = new AbortController();
  #reading: Promise<void> | undefined;
  #version = '';

  constructor(options: VaultKeysOptions) {
    this.#options = options;
  }

  get version(): string {
    return this.#version;
  }

  async keys(signal: AbortSignal): Promise<readonly ArtifactKey[]> {
    signal.throwIfAborted();
    if (this.#held === undefined || this.#options.clock.monotonic() >= this.#restUntil) {
      // A reading ends by itself, within the limits of the client; the signal of one caller is not that of the others.
      this.#reading ??= this.#refresh().finally(() => {
        this.#reading = undefined;
      });
      await abortable(this.#reading, signal);
    }
    return this.#held!;
  }

  [Symbol.dispose](): void {
    this.#stop.abort(new LonglineError('cancelled', 'keys are read no longer'));
  }

  async #refresh(): Promise<void> {
    const { clock, log } = this.#options;
    await this.#loadCopy();
    try {
      const keys = await this.#readInTime();
      this.#restUntil = clock.monotonic() + FRESH_MS;
      if (this.#hold(keys) || !this.#isCopied) this.#isCopied = await this.#saveCopy(keys);
    } catch (error) {
      if (this.#held === undefined) throw noKeys(error);
      this.#restUntil = clock.monotonic() + RETRY_MS;
      log.warn('Vault gave no keys; those that it gave before go on', { error: describeError(error) });
    }
  }

  async #readInTime(): Promise<readonly ArtifactKey[]> {
    const limit = new AbortController();
    const late = new LonglineError('late', `Vault didn't give all keys within ${READING_MS} ms`);
    const timer = setTimeout(() => limit.abort(late), READING_MS);
    const stop = () => limit.abort(this.#stop.signal.reason);
    this.#stop.signal.addEventListener('abort', stop, { once: true });
    if (this.#stop.signal.aborted) stop();
    try {
      return await this.#readAll(limit.signal);
    } finally {
      clearTimeout(timer);
      this.#stop.signal.removeEventListener('abort', stop);
    }
  }

  /** Everything, or a failure: half of the keys would look as if the others were gone. */
  async #readAll(signal: AbortSignal): Promise<readonly ArtifactKey[]> {
    const { client, places, log } = this.#options;
    const keys: ArtifactKey[] = [];
    const readings = [
      ...places.transit.names.map((name) => () => readTransitKeys(client, places.transit.mount, name, signal)),
      ...places.kv.map((place) => () => readKvKeys(client, place, signal)),
    ];
    for (const reading of readings) {
      try {
        const { keys: found, refused } = await reading();
        keys.push(...found);
        for (const { place, error } of refused)
          log.error('a key in Vault is of no use', { place, error: error.message });
      } catch (error) {
        const { reason, message } = toLonglineError(error);
        if (reason !== 'not_found' && reason !== 'invalid') throw error;
        log.error('a key that is named is not in Vault', { error: message });
      }
    }
    return keys;
  }

  /** True if they are others than before. */
  #hold(keys: readonly ArtifactKey[]): boolean {
    const version = keysVersion(keys);
    const changed = this.#held === undefined || version !== this.#version;
    this.#held = keys;
    this.#version = version;
    return changed;
  }

  async #loadCopy(): Promise<void> {
    if (this.#held !== undefined) return;
    const { copy, identity, log } = this.#options;
    try {
      const text = await copy.load();
      const keys = text === undefined ? undefined : readKeyCopy(text, identity);
      if (keys !== undefined) this.#hold(keys);
    } catch (error) {
      log.error("the copy of Vault's keys can't be used", { error: describeError(error) });
    }
  }

  async #saveCopy(keys: readonly ArtifactKey[]): Promise<boolean> {
    const { copy, identity, log } = this.#options;
    try {
      await copy.save(writeKeyCopy(keys, identity));
      return true;
    } catch (error) {
      log.error(
        "the copy of Vault's keys can't be written: after a restart without Vault there would be older keys or none",
        {
          error: describeError(error),
        },
      );
      return false;
    }
  }
}

function noKeys(error: unknown): LonglineError {
  const { message } = toLonglineError(error);
  return new LonglineError('unavailable', `no keys from Vault, and none from before: ${message}`, { cause: error });
}

async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const left = Promise.withResolvers<never>();
  const leave = () => left.reject(signal.reason);
  signal.addEventListener('abort', leave, { once: true });
  try {
    return await Promise.race([work, left.promise]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}

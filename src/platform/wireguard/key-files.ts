// Secret keys from files and from the environment. A file is read by whoever guards files of the agent, which refuses one that
// others could read; a new one is whole and on disk, or isn't there. What a source holds is never in a message.
import { randomBytes } from 'node:crypto';
import { link, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { KeyStore } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { SecretKey } from '../../core/wireguard-keys.ts';
import type { LockedMemory } from './locked-memory.ts';

const FROM_ENVIRONMENT = /^env:([A-Za-z_][A-Za-z0-9_]*)$/;

/** What a store is made of. */
export interface KeyFilesParts {
  /** Reads a file that only its owner may read. Throws `not_found`, and `policy` if others may. */
  readonly readSecret: (path: string) => Promise<string>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly memory: LockedMemory;
}

/** The keys of a host. */
export class KeyFiles implements KeyStore {
  readonly #parts: KeyFilesParts;

  constructor(parts: KeyFilesParts) {
    this.#parts = parts;
  }

  get unlocked(): string | undefined {
    return this.#parts.memory.unlocked;
  }

  async read(source: string): Promise<SecretKey> {
    const { memory } = this.#parts;
    const key = SecretKey.parse((await this.#text(source)).trim(), (bytes) => memory.hold(bytes));
    if (key !== undefined) return key;
    const form = '32 bytes, not all zero, as 44 characters of base64, such as `wg genkey` prints';
    throw new LonglineError('invalid', `${source} holds no key of WireGuard; a key is ${form}`);
  }

  async generate(path: string): Promise<SecretKey> {
    const bytes = randomBytes(32);
    // As the curve wants them, so that what is read back from WireGuard is what was written.
    bytes[0] = bytes[0]! & 0b1111_1000;
    bytes[31] = (bytes[31]! & 0b0111_1111) | 0b0100_0000;
    const text = bytes.toString('base64');
    bytes.fill(0);
    await writeNew(path, `${text}\n`);
    return SecretKey.parse(text, (key) => this.#parts.memory.hold(key))!;
  }

  async #text(source: string): Promise<string> {
    const variable = FROM_ENVIRONMENT.exec(source)?.[1];
    if (variable !== undefined) {
      const value = this.#parts.environment[variable];
      if (value !== undefined && value !== '') return value;
      throw new LonglineError('not_found', `the environment has no variable ${variable} that holds a key`);
    }
    if (source.startsWith('/') || process.platform === 'win32') return await this.#parts.readSecret(source);
    // Not shown: the likeliest mistake is the key itself in place of its path.
    throw new LonglineError('invalid', 'a key is named by the absolute path of its file, or by "env:NAME"');
  }
}

/** Writes a file beside and links it into place, which fails if there is one: no key is ever overwritten, or half there. */
async function writeNew(path: string, text: string): Promise<void> {
  const fresh = `${path}.new`;
  try {
    await rm(fresh, { force: true });
    {
      await using file = await open(fresh, 'wx', 0o600);
      await file.writeFile(text);
      await file.sync();
    }
    await link(fresh, path);
    await rm(fresh);
    await using folder = await open(dirname(path), 'r');
    if (process.platform !== 'win32') await folder.sync();
  } catch (error) {
    await rm(fresh, { force: true }).catch(() => undefined);
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST')
      throw new LonglineError('already_exists', `${path} is there already; a key is never overwritten`, {
        cause: error,
      });
    if (code === 'ENOENT')
      throw new LonglineError('not_found', `there is no folder ${dirname(path)} for a key; make it, with mode 700`);
    throw new LonglineError('unavailable', `can't write key file ${path}: ${message}`, { cause: error });
  }
}

// The highest leader epoch that this data folder has seen, so that no loss of a lock's own memory (a Redis without its data,
// a lock file below a /run that went with a reboot) makes epochs go back. Kept as the name of an empty file in a folder:
// replicas that share the folder add to it without a lock, and the highest name counts, whoever wrote last.
import { mkdir, open, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { LonglineError } from '../../core/errors.ts';

/** Where the epochs of a data folder are. */
export function epochFolder({ dataDir }: { readonly dataDir: string }): string {
  return join(dataDir, 'leader-epochs');
}

const NAME = /^[0-9]{20}$/;

/** Epochs seen by replicas of one data folder. */
export class EpochRecord {
  readonly #folder: string;
  #highest = 0n;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Reads what is there; makes the folder. Throws `unavailable` if it can't be used. */
  static async open(folder: string): Promise<EpochRecord> {
    const record = new EpochRecord(folder);
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      record.#highest = highestOf(await readdir(folder));
    } catch (error) {
      throw failure(folder, error);
    }
    return record;
  }

  /** The highest epoch in a folder that may not be there; 0 for none. Makes nothing. */
  static async read(folder: string): Promise<bigint> {
    try {
      return highestOf(await readdir(folder));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0n;
      throw failure(folder, error);
    }
  }

  /** The highest epoch that is durable, as far as this process knows. */
  get highest(): bigint {
    return this.#highest;
  }

  /** Resolves once the epoch is durable. Lower ones cost nothing. Throws `limit` or `unavailable`; then nothing has changed. */
  async keep(epoch: bigint): Promise<void> {
    if (epoch <= this.#highest) return;
    try {
      await using file = await open(join(this.#folder, nameOf(epoch)), 'a', 0o600);
      await file.sync();
      await using folder = await open(this.#folder, 'r');
      await folder.sync();
    } catch (error) {
      throw failure(this.#folder, error);
    }
    this.#highest = epoch;
    await this.#forgetLower().catch(() => undefined);
  }

  /** Only tidies up: what stays is lower and says nothing. */
  async #forgetLower(): Promise<void> {
    for (const name of await readdir(this.#folder)) {
      if (NAME.test(name) && BigInt(name) < this.#highest) await unlink(join(this.#folder, name));
    }
  }
}

function highestOf(names: readonly string[]): bigint {
  return names
    .filter((name) => NAME.test(name))
    .reduce((most, name) => (BigInt(name) > most ? BigInt(name) : most), 0n);
}

function nameOf(epoch: bigint): string {
  return epoch.toString().padStart(20, '0');
}

function failure(folder: string, cause: unknown): LonglineError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const reason = code === 'ENOSPC' || code === 'EDQUOT' ? 'limit' : 'unavailable';
  return new LonglineError(reason, `leader epochs can't be kept in ${folder}: ${message}`, { cause });
}

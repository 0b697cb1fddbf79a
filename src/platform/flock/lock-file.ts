// A leader lock for replicas on one host: flock(2) on a file that stays open, so that the kernel lets go of it with the process,
// however that ends, and nobody else can. The file remembers epoch and holder in two slots, of which the older is written
// over: a write that is torn leaves the other. It fails with `limit` on a full disk and `unavailable` for other faults, and then
// holds nothing. Whoever removes the file of a leader takes the lock from it: it is noticed at the next renewal.
import { randomUUID } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, mkdir, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LonglineError } from '../../core/errors.ts';
import type { LeaderLock, LockAnswer } from '../../core/leader-lock.ts';
import { tryLock } from './flock.ts';
import { encodeSlot, newestSlot, SLOT_BYTES } from './lock-slot.ts';

/** How a file is to be locked. */
export interface LockFileOptions {
  readonly path: string;
  /** Whose lock it is: one for all replicas of an agent. A file of another agent is refused. */
  readonly agentId: string;
  /** This replica, for people. */
  readonly holder: string;
}

const SLOTS = 2;

/** The lock. Never waits for another process. */
export class LockFile implements LeaderLock {
  readonly name: string;
  readonly expires = false;
  readonly #options: LockFileOptions;
  /** Tells two locks of one process apart. */
  readonly #token = randomUUID();
  #held: FileHandle | undefined;

  constructor(options: LockFileOptions) {
    this.#options = options;
    this.name = `lock file ${options.path}`;
  }

  async acquire(floor: bigint, signal?: AbortSignal): Promise<LockAnswer> {
    await this.#drop();
    const file = await this.#open();
    try {
      const found = await this.#read(file);
      if (!tryLock(file.fd)) {
        await file.close();
        return { kind: 'taken', ...(found === undefined ? {} : { holder: found.holder, epoch: found.epoch }) };
      }
      // Locked, but perhaps not the file that others will open.
      if (!(await this.#isInPlace(file))) {
        await file.close();
        return { kind: 'taken' };
      }
      const epoch = await this.#take(file, floor);
      // Nobody waits for it any more: kept, it would be held by a replica that stands by.
      signal?.throwIfAborted();
      this.#held = file;
      return { kind: 'acquired', epoch };
    } catch (error) {
      await file.close().catch(() => undefined);
      throw this.#failure(error);
    }
  }

  async renew(): Promise<boolean> {
    if (this.#held === undefined) return false;
    try {
      if (await this.#isInPlace(this.#held)) return true;
    } catch (error) {
      throw this.#failure(error);
    }
    await this.#drop();
    return false;
  }

  async release(): Promise<void> {
    await this.#drop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#drop();
  }

  async #open(): Promise<FileHandle> {
    const { path } = this.#options;
    try {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
      const file = await open(path, flags, 0o600);
      if ((await file.stat()).isFile()) return file;
      await file.close();
    } catch (error) {
      throw this.#failure(error);
    }
    throw new LonglineError('invalid', `${this.name}: is there and is no file; name another path`);
  }

  /** Writes the next epoch and has it durable; only then it counts. */
  async #take(file: FileHandle, floor: bigint): Promise<bigint> {
    // Read again: the last holder may have written between our look and our lock.
    const newest = await this.#read(file);
    const known = newest?.epoch ?? 0n;
    const epoch = (known > floor ? known : floor) + 1n;
    const slot = newest === undefined ? 0 : 1 - newest.slot;
    const { agentId, holder } = this.#options;
    const bytes = encodeSlot({ epoch, agentId, holder: `${holder} ${this.#token}` });
    await file.write(bytes, 0, bytes.length, slot * SLOT_BYTES);
    await file.sync();
    return epoch;
  }

  async #read(file: FileHandle) {
    const bytes = Buffer.alloc(SLOTS * SLOT_BYTES);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    const newest = newestSlot(bytes.subarray(0, bytesRead));
    if (newest !== undefined && newest.agentId !== this.#options.agentId) {
      const text = `${this.name}: is the one of agent ${newest.agentId}; give the replicas of ${this.#options.agentId} a file of their own`;
      throw new LonglineError('already_exists', text);
    }
    return newest === undefined ? undefined : { ...newest, holder: newest.holder.split(' ')[0]! };
  }

  async #isInPlace(file: FileHandle): Promise<boolean> {
    const own = await file.stat();
    const there: Stats | undefined = await stat(this.#options.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
      throw error;
    });
    return there !== undefined && there.ino === own.ino && there.dev === own.dev;
  }

  async #drop(): Promise<void> {
    const held = this.#held;
    this.#held = undefined;
    await held?.close();
  }

  #failure(error: unknown): LonglineError {
    if (error instanceof LonglineError) return error;
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === 'ENOSPC' || code === 'EDQUOT' ? 'limit' : 'unavailable';
    return new LonglineError(reason, `${this.name} can't be used: ${message}`, { cause: error });
  }
}

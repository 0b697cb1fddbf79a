// A leader lock for replicas on several hosts: a key in Redis that lapses, beside a counter of epochs that doesn't. Every step
// is one script, so that nothing comes between look and change. It fails with `unavailable` or `late`; a connection that
// failed is given up, and the next step makes a new one, so nothing is queued and nothing is sent twice.
// Redis may lose what it was told (a restart without a file, a failover): epochs still never go back, as the caller's floor
// counts as well, and a counter that is behind it makes this replica wait a whole period before it takes the key, so that
// a leader of whom Redis forgot can claim it again, or notice.
import { LonglineError } from '../../core/errors.ts';
import type { LeaderLock, LockAnswer } from '../../core/leader-lock.ts';
import { RedisConnection, type RedisOptions } from './redis-connection.ts';
import { ACQUIRE, RELEASE, RENEW } from './scripts.ts';

/** How a lock in Redis is to be had. */
export interface RedisLockOptions extends RedisOptions {
  /** One lock per agent. */
  readonly agentId: string;
  /** This process, for people, and no other: it is the key's value. */
  readonly holder: string;
  readonly ttlMs: number;
  /** Milliseconds that pass while the process is stopped. */
  readonly elapsed: () => number;
}

/** The lock. */
export class RedisLock implements LeaderLock {
  readonly name: string;
  readonly expires = true;
  readonly #options: RedisLockOptions;
  readonly #connection: RedisConnection;
  readonly #keys: readonly [string, string];
  /** Since when the counter was seen behind our floor, without a holder. */
  #behindSinceMs: number | undefined;

  constructor(options: RedisLockOptions) {
    this.#options = options;
    this.#connection = new RedisConnection(options);
    this.name = `Redis at ${this.#connection.where}`;
    // Braces: of a cluster, both on one node.
    this.#keys = [`longline:{${options.agentId}}:leader`, `longline:{${options.agentId}}:epoch`];
  }

  async acquire(floor: bigint, signal: AbortSignal): Promise<LockAnswer> {
    const { holder, ttlMs, elapsed } = this.#options;
    const waited = this.#behindSinceMs !== undefined && elapsed() - this.#behindSinceMs >= ttlMs;
    const answer = await this.#run(ACQUIRE, [holder, String(ttlMs), String(floor), waited ? '1' : '0'], signal);
    const [kind, who, number] = answer as [string, string, string];
    const epoch = this.#epoch(number);
    if (kind === 'behind') {
      this.#behindSinceMs ??= elapsed();
      return { kind: 'taken' };
    }
    this.#behindSinceMs = undefined;
    return kind === 'acquired' ? { kind, epoch } : { kind: 'taken', holder: who, epoch };
  }

  async renew(epoch: bigint, signal: AbortSignal): Promise<boolean> {
    const { holder, ttlMs } = this.#options;
    return (await this.#run(RENEW, [holder, String(ttlMs), String(epoch)], signal)) === 1;
  }

  async release(epoch: bigint, signal: AbortSignal): Promise<void> {
    await this.#run(RELEASE, [this.#options.holder, String(epoch)], signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection[Symbol.dispose]();
  }

  async #run(script: string, args: readonly string[], signal: AbortSignal): Promise<unknown> {
    return await this.#connection.run(script, this.#keys, args, signal);
  }

  #epoch(text: string): bigint {
    if (/^[0-9]{1,16}$/.test(text)) return BigInt(text);
    throw new LonglineError(
      'unavailable',
      `${this.name}: ${this.#keys[1]} is ${JSON.stringify(text)}, which is no epoch`,
    );
  }
}

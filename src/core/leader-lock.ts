// What leader election asks of whatever it elects by: a lock of which one replica of an agent has hold at a time, with a number
// that grows with each hold (its epoch). Adapters decide nothing: when to ask, how long an answer counts and what to do
// about it is said elsewhere. They throw `unavailable` (or `limit`, for a full disk) where the answer can't be known.

/** The highest epoch that every lock counts up to exactly, and that a controller takes. */
export const MAX_EPOCH = 2n ** 53n - 1n;

/** What came of a try to take the lock. */
export type LockAnswer =
  /** It is this replica's. The epoch is higher than `floor` and than any that the lock remembers. */
  | { readonly kind: 'acquired'; readonly epoch: bigint }
  /** It isn't. Who has it, and with which epoch, where that is known. */
  | { readonly kind: 'taken'; readonly holder?: string; readonly epoch?: bigint };

/** A lock that replicas of one agent, and nobody else, try to take. Dispose to let go of connections and files. */
export interface LeaderLock extends AsyncDisposable {
  /** Names it in messages: "lock file /run/longline/a.lock". */
  readonly name: string;
  /** False if it holds until the process ends or lets go; true if it lapses unless it is renewed. */
  readonly expires: boolean;
  /** Tries once. `floor` is the highest epoch that this replica knows of, from wherever. */
  acquire(floor: bigint, signal: AbortSignal): Promise<LockAnswer>;
  /** True if it still is this replica's, for a whole period again; false if it is not. Throws if that can't be known. */
  renew(epoch: bigint, signal: AbortSignal): Promise<boolean>;
  /** Lets go, if it still is this replica's; the lock goes on remembering the epoch. */
  release(epoch: bigint, signal: AbortSignal): Promise<void>;
}

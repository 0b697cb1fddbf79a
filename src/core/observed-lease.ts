// What a replica may make of a record that says who leads, in a store that can compare and swap and no more. Whether a lease has
// lapsed is judged by the replica's own lasting clock: only once it saw the same version of the record for a whole period, as
// its holder wrote nothing meanwhile. What clocks of hosts and stores show plays no part. A write must then be refused by the store if the
// version is another by now; thus a look that is old by the time of the write does no harm. It knows no store and never waits.

/** A hold, as it is written. */
export interface LeaseRecord {
  /** One process; empty if nobody's any more. */
  readonly holder: string;
  readonly epoch: bigint;
  /** How long it counts unless written again, as the holder has it. */
  readonly ttlMs: number;
}

/** A hold, as it was read. */
export interface FoundLease extends LeaseRecord {
  /** The store's mark of the last write: another after each, whoever wrote. */
  readonly version: string;
}

/** What is to be done with what was found. */
export type LeaseVerdict =
  /** It may be taken, with this epoch, if the store still has what was found. */
  | { readonly kind: 'free'; readonly epoch: bigint }
  | { readonly kind: 'taken'; readonly holder?: string; readonly epoch?: bigint };

/** One replica's view of one record. Times are of its own lasting clock. */
export class ObservedLease {
  readonly #holder: string;
  readonly #ttlMs: number;
  #seen: { readonly version: string | undefined; readonly sinceMs: number } | undefined;

  /** @param ttlMs the period of this replica, and of others where no record tells. */
  constructor(holder: string, ttlMs: number) {
    this.#holder = holder;
    this.#ttlMs = ttlMs;
  }

  /**
   * Judges what was read (undefined: there is no record) at `nowMs`, after the answer came. An own hold is free to take: its
   * answer was lost. A record behind `floor` is one of a store that forgot something: a leader that it forgot has
   * a whole period to write again before anybody follows it.
   */
  judge(found: FoundLease | undefined, floor: bigint, nowMs: number): LeaseVerdict {
    const unchangedMs = nowMs - this.#since(found?.version, nowMs);
    const epoch = found?.epoch ?? 0n;
    const isTaken = found !== undefined && found.holder !== '' && found.holder !== this.#holder;
    const waitMs = Math.max(isTaken ? found.ttlMs : 0, epoch < floor ? this.#ttlMs : 0);
    if (unchangedMs >= waitMs) return { kind: 'free', epoch: (epoch > floor ? epoch : floor) + 1n };
    return isTaken ? { kind: 'taken', holder: found.holder, epoch } : { kind: 'taken' };
  }

  #since(version: string | undefined, nowMs: number): number {
    if (this.#seen === undefined || this.#seen.version !== version) this.#seen = { version, sinceMs: nowMs };
    return this.#seen.sinceMs;
  }
}

/** True if nobody came after this hold: it may be written again. A store that lost it is told of it anew. */
export function mayRenew(found: FoundLease | undefined, holder: string, epoch: bigint): boolean {
  if (found === undefined) return true;
  return found.epoch <= epoch && (found.holder === holder || found.holder === '');
}

/** True if this very hold is what the store has, and nothing later. */
export function mayRelease(found: FoundLease | undefined, holder: string, epoch: bigint): boolean {
  return found !== undefined && found.holder === holder && found.epoch === epoch;
}

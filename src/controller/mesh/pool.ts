// A prefix cut into slots of one size: single addresses for members, or a subnet for each. Says which slots there are and
// in which order they are given; who has which is the caller's to know. Pure.
import { joinPrefix, type PrefixParts, splitPrefix } from '../../core/network/prefix.ts';

/** Slots of a pool, as canonical prefixes. */
export class Pool {
  readonly #base: PrefixParts;
  readonly #slotLength: number;
  readonly #first: bigint;
  readonly #end: bigint;

  private constructor(base: PrefixParts, slotLength: number, reserved: 0n | 1n) {
    this.#base = base;
    this.#slotLength = slotLength;
    this.#first = reserved;
    // IPv6 has no broadcast address, but the first one is that of any router.
    this.#end = (1n << BigInt(slotLength - base.length)) - (base.bits === 32 ? reserved : 0n);
  }

  /** Single addresses, without that of the network itself and, in IPv4, that for all of it. */
  static ofAddresses(base: PrefixParts): Pool {
    // RFC 3021 and RFC 6164: with one bit left, both are addresses of hosts.
    return new Pool(base, base.bits, base.bits - base.length > 1 ? 1n : 0n);
  }

  /** Subnets of one length, which must not be shorter than the prefix's own. */
  static ofSubnets(base: PrefixParts, length: number): Pool {
    return new Pool(base, length, 0n);
  }

  /** How many slots there are. */
  get size(): bigint {
    return this.#end - this.#first;
  }

  /** True if this canonical prefix is one of the slots. */
  has(slot: string): boolean {
    const parts = splitPrefix(slot);
    if (parts === undefined || parts.bits !== this.#base.bits || parts.length !== this.#slotLength) return false;
    const index = (parts.value - this.#base.value) >> BigInt(parts.bits - this.#slotLength);
    return index >= this.#first && index < this.#end;
  }

  /**
   * Gives slots one after the other: the lowest that nobody has or had, and when there is none left those that rest, longest
   * first. `resting` says since when a slot that was given back is free. Undefined once all are held.
   */
  taker(held: ReadonlySet<string>, resting: ReadonlyMap<string, number>): () => string | undefined {
    const rested = [...resting].sort(([, one], [, other]) => one - other).map(([slot]) => slot);
    const again = rested.filter((slot) => !held.has(slot) && this.has(slot));
    let index = this.#first;
    return () => {
      for (; index < this.#end; index++) {
        const slot = this.#slot(index);
        if (held.has(slot) || resting.has(slot)) continue;
        index++;
        return slot;
      }
      return again.shift();
    };
  }

  #slot(index: bigint): string {
    const { bits, value } = this.#base;
    const length = this.#slotLength;
    return joinPrefix({ bits, value: value + (index << BigInt(bits - length)), length });
  }
}

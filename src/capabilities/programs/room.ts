// How many programs may be loaded at once on this host, and who goes when one more comes. Pure.

/** What came of asking for a place. */
export type Claim =
  | { readonly kind: 'given' }
  /** Nobody goes for it. */
  | { readonly kind: 'refused' }
  /** This one has to go first; then the place has to be asked for again. */
  | { readonly kind: 'taken'; readonly oldest: string };

/** One per capability. A place is had from before a program is loaded until nothing of it is. */
export class Room {
  readonly #most: number;
  readonly #whenFull: 'refuse' | 'replace_oldest';
  /** In which order they came, by name. */
  readonly #sequences = new Map<string, number>();
  #last = 0;

  constructor(most: number, whenFull: 'refuse' | 'replace_oldest') {
    this.#most = most;
    this.#whenFull = whenFull;
  }

  get size(): number {
    return this.#sequences.size;
  }

  /** Puts one back that has had its place in an earlier process, also if there are too many now. */
  restore(name: string, sequence: number): void {
    this.#sequences.set(name, sequence);
    this.#last = Math.max(this.#last, sequence);
  }

  /** Asks for a place. One that is had is given again. */
  claim(name: string): Claim {
    if (this.#sequences.has(name)) return { kind: 'given' };
    if (this.#sequences.size < this.#most) {
      this.#sequences.set(name, ++this.#last);
      return { kind: 'given' };
    }
    const oldest = [...this.#sequences].reduce((one, other) => (other[1] < one[1] ? other : one));
    return this.#whenFull === 'refuse' ? { kind: 'refused' } : { kind: 'taken', oldest: oldest[0] };
  }

  /** Where a program stands in the order of coming; 0 if it has no place. */
  sequence(name: string): number {
    return this.#sequences.get(name) ?? 0;
  }

  /** Nothing happens if it has none. */
  leave(name: string): void {
    this.#sequences.delete(name);
  }
}

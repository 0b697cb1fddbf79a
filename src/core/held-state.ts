// What a controller wants of a capability, kept on disk: read at the start, before anybody can be asked, and written before anything is
// done. The capability says what its bodies are and what follows from them.
import { hash } from 'node:crypto';
import type { StateStore } from './capability.ts';
import { checkSequence, type StateChange, type StateRef } from './desired-state.ts';
import { LonglineError } from './errors.ts';
import { Ledger } from './ledger.ts';

const HEADER_BYTES = 16;
const DIGEST_BYTES = 16;

/** One kind of state: `H` is all of it as of one generation. */
export interface StateForm<H extends StateRef> {
  /** The state that follows from a serialised body, as `followState` has it. Throws `stale` or `invalid` if it doesn't fit. */
  follow(held: H | undefined, generation: bigint, baseGeneration: bigint, body: Uint8Array): H;
  /** Serialised body of the full state. */
  encode(held: H): Uint8Array;
}

/** The state that follows on what is held: `next` makes it, unless it is held already. Throws `stale` if it is another one, or old. */
export function followState<H extends StateRef>(
  held: H | undefined,
  generation: bigint,
  baseGeneration: bigint,
  next: () => H,
): H {
  checkSequence(held, generation, baseGeneration);
  if (generation === held?.generation && baseGeneration !== 0n) return held;
  const found = next();
  if (generation !== held?.generation || Buffer.compare(found.digest, held.digest) === 0) return found;
  throw new LonglineError('stale', `generation ${generation} is held already, and another state; take the next one`);
}

/** The digest of a full state in its canonical form. */
export function stateDigest(canonical: Uint8Array): Uint8Array {
  return Uint8Array.from(hash('sha256', canonical, 'buffer').subarray(0, DIGEST_BYTES));
}

/** One per capability. Calls must not overlap. */
export class HeldState<H extends StateRef> {
  readonly #ledger: Ledger;
  readonly #form: StateForm<H>;
  #held: H | undefined;

  constructor(state: StateStore, form: StateForm<H>) {
    this.#ledger = new Ledger(state, 'held/');
    this.#form = form;
  }

  /** What is durable; undefined if nothing was ever asked for. */
  get held(): H | undefined {
    return this.#held;
  }

  /** Reads what was written. Throws if it can't be made sense of: then it is unknown what is wanted. */
  async load(): Promise<void> {
    const { base, changes } = await this.#ledger.load();
    for (const record of base === undefined ? changes : [base, ...changes]) {
      const bytes = Buffer.from(record);
      const [generation, baseGeneration] = [bytes.readBigUInt64BE(0), bytes.readBigUInt64BE(8)];
      this.#held = this.#form.follow(this.#held, generation, baseGeneration, bytes.subarray(HEADER_BYTES));
    }
  }

  /** Takes one generation, durable when it resolves. Throws to refuse it; then what was held before still is. */
  async take({ generation, baseGeneration, body }: StateChange): Promise<H> {
    const next = this.#form.follow(this.#held, generation, baseGeneration, body);
    const whole = () => framed(generation, 0n, this.#form.encode(next));
    if (next.generation !== this.#held?.generation) {
      if (baseGeneration === 0n) await this.#ledger.replace(whole());
      else await this.#ledger.append(framed(generation, baseGeneration, body), whole);
    }
    this.#held = next;
    return next;
  }
}

function framed(generation: bigint, baseGeneration: bigint, body: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeBigUInt64BE(generation, 0);
  header.writeBigUInt64BE(baseGeneration, 8);
  return Buffer.concat([header, body]);
}
